//! The file as a whole: the examples of the guide, each bad input, and texts nobody foresaw.

mod properties;
mod refusals;

use super::*;
use crate::name::{EnvKey, ServiceName};
use crate::source::RepoPath;
use crate::spec::{
    BuildSpec, ByteSize, CpuCount, HealthCheck, ImageSpec, Lang, ServiceSpec, VolumeSpec,
};
use crate::status::Method;
use std::time::Duration;

fn read(text: &str) -> Parsed {
    let parsed =
        parse("Config.toml", text.as_bytes()).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let json = serde_json::to_string(&parsed.spec).unwrap();
    assert_eq!(
        serde_json::from_str::<DeploymentSpec>(&json).unwrap(),
        parsed.spec,
        "survives the wire"
    );
    parsed
}

fn service(text: &str) -> ServiceSpec {
    let mut parsed = read(text);
    assert_eq!(parsed.spec.services.len(), 1);
    parsed.spec.services.remove(0)
}

/// What is wrong, as text.
fn wrong(text: &str) -> String {
    match parse("Config.toml", text.as_bytes()) {
        Ok(parsed) => panic!("accepted: {text}\n{parsed:?}"),
        Err(error) => error.to_string(),
    }
}

fn env(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<EnvKey, String> {
    pairs
        .iter()
        .map(|(key, value)| (EnvKey::parse(key).unwrap(), (*value).to_owned()))
        .collect()
}

const SCAPEGOAT: &str = r#"
[app]
name="scapegoat"
version="1.0.0"
author="Ethan Shry"

[config]
lang="python3"
run="python3 ./src/main.py"
"#;

#[test]
fn a_name_a_language_and_a_command_are_enough() {
    let parsed = read(SCAPEGOAT);
    assert_eq!(parsed.warnings, []);
    assert_eq!(parsed.spec.about.name.as_deref(), Some("scapegoat"));
    assert_eq!(parsed.spec.about.version.as_deref(), Some("1.0.0"));
    assert_eq!(parsed.spec.about.author.as_deref(), Some("Ethan Shry"));
    assert_eq!(parsed.spec.method, Method::Rolling);
    let [service] = &parsed.spec.services[..] else {
        panic!()
    };
    assert_eq!(service.name, ServiceName::app());
    let build = BuildSpec::BuiltIn {
        lang: Lang::Python3,
        run: Some("python3 ./src/main.py".to_owned()),
    };
    assert_eq!(service.image, ImageSpec::Build(build));
    assert_eq!(
        service.command.as_deref(),
        Some(&["python3".to_owned(), "./src/main.py".to_owned()][..])
    );
    assert_eq!(service.ports, [8000]);
    assert_eq!(service.env, env(&[("PORT", "8000")]));
    assert_eq!(service.health.check, HealthCheck::Default);
}

#[test]
fn a_dockerfile_alone_is_enough_and_exposes_nothing() {
    let service = service("config.dockerfile = \"docker/Dockerfile\"");
    let path = RepoPath::parse("docker/Dockerfile").unwrap();
    assert_eq!(
        service.image,
        ImageSpec::Build(BuildSpec::Dockerfile { path })
    );
    assert_eq!(
        (service.command, service.ports.len(), service.env.len()),
        (None, 0, 0)
    );
}

#[test]
fn every_key_has_its_meaning() {
    let parsed = read(
        r#"
[app]
name = "scapegoat"
endpoint = "scapegoat"
[config]
dockerfile = "Dockerfile"
run = "serve --greeting 'hello world'"
port = 3000
domain = "Scapegoat.Example"
test = ["pytest"]
[env]
GREETING = "hello"
WORKERS = 4
DEBUG = false
[deploy]
methode = "rolling"
[health]
path = "/healthz?deep=1"
interval = "500ms"
timeout = 2
retries = 5
start_period = "2m"
[resources]
memory = "256M"
cpus = 0.5
pids = 100
[[volumes]]
name = "data"
path = "/var/lib/app/"
[[volumes]]
name = "models"
path = "/models"
read_only = true
"#,
    );
    assert_eq!(parsed.warnings, []);
    let [service] = &parsed.spec.services[..] else {
        panic!()
    };
    assert_eq!(
        service.command.as_deref().unwrap(),
        ["serve", "--greeting", "hello world"]
    );
    assert_eq!(service.ports, [3000]);
    assert_eq!(service.domain.as_deref(), Some("scapegoat.example"));
    assert_eq!(
        service.env,
        env(&[("DEBUG", "false"), ("GREETING", "hello"), ("WORKERS", "4")])
    );
    assert_eq!(
        service.health.check,
        HealthCheck::Http {
            path: "/healthz?deep=1".to_owned()
        }
    );
    assert_eq!(service.health.interval, Duration::from_millis(500));
    assert_eq!(service.health.timeout, Duration::from_secs(2));
    assert_eq!(service.health.retries, 5);
    assert_eq!(service.health.start_period, Duration::from_secs(120));
    assert_eq!(service.resources.memory, Some(ByteSize(256 << 20)));
    assert_eq!(service.resources.cpus, Some(CpuCount(500)));
    assert_eq!(service.resources.pids, Some(100));
    let volume = |name: &str, path: &str, read_only| VolumeSpec {
        name: ServiceName::parse(name).unwrap(),
        path: path.to_owned(),
        read_only,
    };
    assert_eq!(
        service.volumes,
        [
            volume("data", "/var/lib/app", false),
            volume("models", "/models", true)
        ]
    );
}

#[test]
fn languages_and_their_ports() {
    for (lang, expected) in [
        ("python", Lang::Python3),
        ("python3", Lang::Python3),
        ("node", Lang::Node),
        ("static", Lang::Static),
    ] {
        let service = service(&format!("[config]\nlang = \"{lang}\""));
        assert_eq!(
            service.image,
            ImageSpec::Build(BuildSpec::BuiltIn {
                lang: expected,
                run: None
            })
        );
        assert_eq!(service.ports, [DEFAULT_PORT]);
    }
    let service = service("[config]\nlang = \"node\"\nport = 65535\n[env]\nPORT = \"unix\"");
    assert_eq!(service.ports, [65535]);
    assert_eq!(
        service.env,
        env(&[("PORT", "unix")]),
        "what the file says wins"
    );
}

#[test]
fn the_other_health_checks() {
    let check = |health: &str| {
        service(&format!("[config]\nlang = \"node\"\n[health]\n{health}"))
            .health
            .check
    };
    assert_eq!(check("tcp = true"), HealthCheck::Tcp);
    assert_eq!(
        check("command = [\"true\"]"),
        HealthCheck::Command {
            command: vec!["true".to_owned()]
        }
    );
}
