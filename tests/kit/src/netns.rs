//! A network namespace: another machine, as far as the network can tell. Needs root.

use crate::daemon::run;
use std::process::Command;

/// A namespace with one cable to this machine. Removed when dropped.
pub struct Netns {
    name: String,
    subnet: u8,
}

impl Netns {
    /// Makes one, with addresses of a network of its own at both ends of the cable.
    #[must_use]
    pub fn create() -> Self {
        let seed = uuid::Uuid::new_v4();
        let [first, second, ..] = *seed.as_bytes();
        let taken = run(&mut ip(&["-o", "addr"]));
        let subnet = (1..=250)
            .map(|step| first.wrapping_add(step).clamp(1, 250))
            .find(|subnet| !taken.contains(&format!("10.77.{subnet}.")))
            .expect("a free network below 10.77.0.0/16");
        let namespace = Self {
            name: format!("lsf{first:02x}{second:02x}{}", std::process::id()),
            subnet,
        };
        namespace.connect();
        namespace
    }

    fn connect(&self) {
        let Self { name, subnet } = self;
        let cable = self.cable();
        let (near, far) = (
            format!("10.77.{subnet}.1/24"),
            format!("10.77.{subnet}.2/24"),
        );
        run(&mut ip(&["netns", "add", name]));
        run(&mut ip(&[
            "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", name,
        ]));
        run(&mut ip(&["addr", "add", &near, "dev", &cable]));
        run(&mut ip(&["link", "set", &cable, "up"]));
        run(&mut ip(&["-n", name, "addr", "add", &far, "dev", "eth0"]));
        for device in ["lo", "eth0"] {
            run(&mut ip(&["-n", name, "link", "set", device, "up"]));
        }
        let gateway = self.near();
        run(&mut ip(&[
            "-n", name, "route", "add", "default", "via", &gateway,
        ]));
    }

    fn cable(&self) -> String {
        format!("lsf{}", self.subnet)
    }

    /// The address of this machine, as seen from inside.
    #[must_use]
    pub fn near(&self) -> String {
        format!("10.77.{}.1", self.subnet)
    }

    /// The address of what runs inside.
    #[must_use]
    pub fn far(&self) -> String {
        format!("10.77.{}.2", self.subnet)
    }

    /// The arguments of `nsenter` that put a program inside. Not `ip netns exec`, which hides the
    /// control groups from it.
    #[must_use]
    pub fn enter(&self) -> String {
        format!("--net=/run/netns/{}", self.name)
    }

    /// Drops every packet in both directions, as a cable that was pulled: nobody is told.
    pub fn cut(&self) {
        self.rules("-I");
    }

    /// Lets packets through again.
    pub fn heal(&self) {
        self.rules("-D");
    }

    fn rules(&self, action: &str) {
        for (chain, direction) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
            run(Command::new("nsenter").arg(self.enter()).args([
                "iptables", "-w", action, chain, direction, "eth0", "-j", "DROP",
            ]));
        }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let removed = ip(&["netns", "del", &self.name]).status();
        // The cable goes with the namespace, and that once its last process is gone.
        let _ = ip(&["link", "del", &self.cable()])
            .stderr(std::process::Stdio::null())
            .status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("the network namespace {} is left behind", self.name);
        }
    }
}

fn ip(arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(arguments);
    command
}
