//! Which ports a process listens on, by what the kernel says of its network namespace.

use std::collections::BTreeSet;

/// `st` of a socket that listens, in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// The TCP ports that are listened on in the network namespace of a process of this host. Empty
/// when that cannot be read. Addresses that only the container itself reaches do not count.
pub(super) fn ports_of(pid: u32) -> Vec<u16> {
    let ports: BTreeSet<u16> = ["tcp", "tcp6"]
        .into_iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok())
        .flat_map(|text| parse(&text))
        .collect();
    ports.into_iter().collect()
}

fn parse(table: &str) -> Vec<u16> {
    let listener = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let (address, port) = columns.next()?.split_once(':')?;
        let is_listening = columns.nth(1)? == LISTENING;
        // 127.0.0.0/8, in the byte order of the kernel's table.
        let is_loopback = address.len() == 8 && address.ends_with("7F");
        (is_listening && !is_loopback).then(|| u16::from_str_radix(port, 16).ok())?
    };
    table.lines().skip(1).filter_map(listener).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_from_connections_and_from_loopback() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                     0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000\n\
                     1: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000\n\
                     2: 0200C90A:1F41 0100C90A:9C40 01 00000000:00000000 00:00000000\n";
        assert_eq!(parse(table), [8000]);
        assert_eq!(parse("nonsense\n0: x"), Vec::<u16>::new());
    }

    #[test]
    fn a_port_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(ports_of(std::process::id()).contains(&port));
    }
}
