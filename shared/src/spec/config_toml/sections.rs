//! What each section means, and how they become a spec.

use super::DEFAULT_PORT;
use super::health::health;
use super::reader::{Found, Reader, Section, kind_of};
use super::value::{self, Refusal};
use crate::name::{EnvKey, ServiceName, shown};
use crate::source::RepoPath;
use crate::spec::{
    About, BuildSpec, ByteSize, CpuCount, DeploymentSpec, ImageSpec, Lang, Resources, ServiceSpec,
    VolumeSpec,
};
use crate::status::Method;
use std::collections::BTreeMap;
use toml_edit::{Item, Value};

/// The least memory that container engines give.
const LEAST_MEMORY: ByteSize = ByteSize(6 << 20);

/// Reads the whole document. `None` only when something was refused.
pub(super) fn read(reader: &mut Reader<'_>, root: &toml_edit::Table) -> Option<DeploymentSpec> {
    reader.check_sections(root);
    let about = app(reader, root);
    let config = config(reader, root);
    let mut env = env(reader, root);
    let method = deploy(reader, root);
    let health = health(reader, root, config.port.is_some());
    let resources = resources(reader, root);
    let volumes = volumes(reader, root);
    let build = config.build?;
    if let (BuildSpec::BuiltIn { .. }, Some(port), Ok(key)) =
        (&build, config.port, EnvKey::parse("PORT"))
    {
        // What built-in images and most frameworks look at.
        env.entry(key).or_insert_with(|| port.to_string());
    }
    let service = ServiceSpec {
        name: ServiceName::app(),
        image: ImageSpec::Build(build),
        command: config.command,
        env,
        ports: config.port.into_iter().collect(),
        volumes,
        health,
        resources,
        domain: config.domain,
    };
    Some(DeploymentSpec {
        services: vec![service],
        method,
        about,
    })
}

/// Takes what a grammar accepts; notes what it refuses.
pub(super) fn accept<T, V>(
    reader: &mut Reader<'_>,
    found: Option<Found<V>>,
    grammar: impl FnOnce(V) -> Result<T, Refusal>,
) -> Option<T> {
    let Found { value, place } = found?;
    grammar(value)
        .map_err(|(wrong, right)| reader.refuse(&place, wrong, right))
        .ok()
}

fn app(reader: &mut Reader<'_>, root: &toml_edit::Table) -> About {
    let section = Section::open(reader, root, "app");
    let mut text = |key, example| {
        let found = section.string(reader, key, example);
        accept(reader, found, value::line)
    };
    About {
        name: text("name", "\"scapegoat\""),
        version: text("version", "\"1.0.0\""),
        author: text("author", "\"A. Person\""),
    }
}

#[derive(Default)]
struct Config {
    /// None when what was given was refused.
    build: Option<BuildSpec>,
    command: Option<Vec<String>>,
    port: Option<u16>,
    domain: Option<String>,
}

fn config(reader: &mut Reader<'_>, root: &toml_edit::Table) -> Config {
    let section = Section::open(reader, root, "config");
    let lang_found = section.string(reader, "lang", "\"python3\"");
    let lang = accept(reader, lang_found, lang);
    let dockerfile_found = section.string(reader, "dockerfile", "\"Dockerfile\"");
    let dockerfile = accept(reader, dockerfile_found, |text| {
        RepoPath::parse(text).map_err(|error| {
            (
                format!("`{}` is not {}", error.shown, error.kind),
                format!("give {}", error.rule),
            )
        })
    });
    let run = run(reader, &section, lang);
    let port = port(reader, &section);
    let domain_found = section.string(reader, "domain", "\"app.example.org\"");
    let domain = accept(reader, domain_found, |text| {
        value::host_name(text)
            .map_err(|(wrong, right)| (format!("`{}`: {wrong}", shown(text)), right))
    });

    let build = match (section.has("lang"), section.has("dockerfile")) {
        (true, true) => {
            let place = section.place_of("dockerfile");
            reader.refuse(
                &place,
                "both `lang` and `dockerfile` are given",
                "keep one: `lang` for a built-in image, `dockerfile` for your own",
            );
            None
        }
        (false, false) => {
            let right = "set one of them, such as lang = \"python3\" (or python, node, static) or dockerfile = \"Dockerfile\"";
            reader.refuse(
                &section.place_of("lang"),
                "neither `lang` nor `dockerfile` is given",
                right,
            );
            None
        }
        (true, false) => lang.map(|lang| BuildSpec::BuiltIn {
            lang,
            run: run.as_ref().map(|(text, _)| text.clone()),
        }),
        (false, true) => dockerfile.map(|path| BuildSpec::Dockerfile { path }),
    };
    let default_port = (section.has("lang") && !section.has("port")).then_some(DEFAULT_PORT);
    if domain.is_some() && !section.has("port") && default_port.is_none() {
        let right = "set config.port to the port that the application listens on";
        reader.refuse(
            &section.place_of("domain"),
            "a domain is given but no port",
            right,
        );
    }
    Config {
        build,
        command: run.map(|(_, words)| words),
        port: port.or(default_port),
        domain,
    }
}

fn lang(text: &str) -> Result<Lang, Refusal> {
    match text {
        "python" | "python3" => Ok(Lang::Python3),
        "node" => Ok(Lang::Node),
        "static" => Ok(Lang::Static),
        _ => {
            let right = "give python, python3, node or static, or use dockerfile = \"Dockerfile\" for anything else";
            Err((
                format!("`{}` is not a language with a built-in image", shown(text)),
                right.to_owned(),
            ))
        }
    }
}

/// The command as it was written, and its words.
fn run(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    lang: Option<Lang>,
) -> Option<(String, Vec<String>)> {
    let found = section.string(reader, "run", "\"python3 ./src/main.py\"")?;
    if lang == Some(Lang::Static) {
        reader.refuse(
            &found.place,
            "static files are served by the built-in image itself",
            "remove this key",
        );
        return None;
    }
    let (text, place) = (found.value, found.place.clone());
    let words = accept(reader, Some(found), value::command)?;
    if let Some(word) = value::shell_word(&words) {
        let wrong = format!(
            "no shell runs this: `{}` reaches the program as it is",
            shown(word)
        );
        reader.warn(&place, wrong, || {
            "put the command into a script of the repository, or write sh -c '…'".to_owned()
        });
    }
    Some((text.to_owned(), words))
}

fn port(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<u16> {
    let found = section.integer(reader, "port", 1..=i64::from(u16::MAX))?;
    u16::try_from(found.value).ok()
}

/// Names in `[env]` that Longshore keeps for itself.
const RESERVED_PREFIX: &str = "LONGSHORE_";

fn env(reader: &mut Reader<'_>, root: &toml_edit::Table) -> BTreeMap<EnvKey, String> {
    let section = Section::open(reader, root, "env");
    let mut env = BTreeMap::new();
    for (key, item, place) in section.entries() {
        let name = match EnvKey::parse(key) {
            Ok(name) if name.as_str().starts_with(RESERVED_PREFIX) => {
                reader.refuse(
                    &place,
                    format!("names that start with {RESERVED_PREFIX} are reserved"),
                    "choose another name",
                );
                continue;
            }
            Ok(name) => name,
            Err(error) => {
                reader.refuse(&place, error.to_string(), "choose another name");
                continue;
            }
        };
        match env_value(item) {
            Some(text) if text.contains('\0') => {
                reader.refuse(&place, "the value has a NUL character", "leave it out")
            }
            Some(text) => {
                env.insert(name, text);
            }
            None => {
                let right = "give a text in quotes, a whole number, true or false";
                reader.refuse(&place, format!("this is {}", kind_of(item)), right);
            }
        }
    }
    env
}

fn env_value(item: &Item) -> Option<String> {
    match item.as_value()? {
        Value::String(text) => Some(text.value().clone()),
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Boolean(truth) => Some(truth.value().to_string()),
        _ => None,
    }
}

fn deploy(reader: &mut Reader<'_>, root: &toml_edit::Table) -> Method {
    let section = Section::open(reader, root, "deploy");
    let found = section.string(reader, "method", "\"rolling\"");
    let other = section.string(reader, "methode", "\"rolling\"");
    if let (Some(_), Some(other)) = (&found, &other) {
        reader.refuse(
            &other.place,
            "`method` is given as well",
            "keep one of the two spellings",
        );
    }
    let Some(Found { value, place }) = found.or(other) else {
        return Method::Rolling;
    };
    match value {
        "rolling" => {}
        "blind" | "simple" | "canary" => {
            let wrong = format!("`{value}` is not available in this release, `rolling` is used");
            reader.warn(&place, wrong, || "write method = \"rolling\"".to_owned());
        }
        _ => reader.refuse(
            &place,
            format!("`{}` is not a method", shown(value)),
            "give rolling, blind, simple or canary",
        ),
    }
    Method::Rolling
}

fn resources(reader: &mut Reader<'_>, root: &toml_edit::Table) -> Resources {
    let section = Section::open(reader, root, "resources");
    let memory = section.any("memory");
    let cpus = section.any("cpus");
    Resources {
        memory: accept(reader, memory, memory_size),
        cpus: accept(reader, cpus, cpu_count),
        pids: section
            .integer(reader, "pids", 1..=i64::from(u32::MAX))
            .and_then(|found| u32::try_from(found.value).ok()),
    }
}

fn memory_size(item: &Item) -> Result<ByteSize, Refusal> {
    let right = || "give a size such as memory = \"256M\", or bytes".to_owned();
    let size = match item.as_value() {
        Some(Value::String(text)) => ByteSize::parse(text.value())
            .map_err(|_| (format!("`{}` is not a size", shown(text.value())), right()))?,
        Some(Value::Integer(bytes)) => u64::try_from(*bytes.value())
            .ok()
            .and_then(|bytes| ByteSize::from_bytes(bytes).ok())
            .ok_or_else(|| (format!("{} is not a size", bytes.value()), right()))?,
        _ => return Err((format!("this is {}", kind_of(item)), right())),
    };
    if size < LEAST_MEMORY {
        return Err((
            format!("{size} is less than a container can have"),
            format!("give at least \"{LEAST_MEMORY}\""),
        ));
    }
    Ok(size)
}

fn cpu_count(item: &Item) -> Result<CpuCount, Refusal> {
    let right = || "give a number of cores without quotes, such as cpus = 0.5".to_owned();
    let cores = match item.as_value() {
        Some(Value::Float(cores)) => *cores.value(),
        // Far beyond 1024, where precision would matter, it is refused.
        Some(Value::Integer(cores)) => *cores.value() as f64,
        _ => return Err((format!("this is {}", kind_of(item)), right())),
    };
    CpuCount::from_cores(cores).map_err(|error| (error.to_string(), right()))
}

/// The most volumes of one application.
const VOLUMES_LIMIT: usize = 32;

fn volumes(reader: &mut Reader<'_>, root: &toml_edit::Table) -> Vec<VolumeSpec> {
    let mut volumes: Vec<VolumeSpec> = vec![];
    let sections = Section::open_each(reader, root, "volumes");
    if let Some(beyond) = sections.get(VOLUMES_LIMIT) {
        let wrong = format!("there are {} volumes", sections.len());
        reader.refuse(
            &beyond.place_of("name"),
            wrong,
            format!("declare at most {VOLUMES_LIMIT}"),
        );
        return volumes;
    }
    for section in sections {
        let name_found = section.string(reader, "name", "\"data\"");
        let name = accept(reader, name_found, |text| {
            ServiceName::parse(text).map_err(|_| {
                let right = "give lower-case letters, digits and hyphens, at most 63".to_owned();
                (format!("`{}` is not a volume name", shown(text)), right)
            })
        });
        let path_found = section.string(reader, "path", "\"/data\"");
        let path = accept(reader, path_found, value::container_path);
        let read_only = section
            .boolean(reader, "read_only")
            .is_some_and(|found| found.value);
        for (key, example) in [("name", "\"data\""), ("path", "\"/data\"")] {
            if !section.has(key) {
                reader.refuse(
                    &section.place_of(key),
                    "this is missing",
                    format!("add {key} = {example}"),
                );
            }
        }
        let (Some(name), Some(path)) = (name, path) else {
            continue;
        };
        if volumes.iter().any(|other| other.name == name) {
            reader.refuse(
                &section.place_of("name"),
                format!("another volume is called `{name}`"),
                "give each a name of its own",
            );
        }
        if volumes.iter().any(|other| other.path == path) {
            reader.refuse(
                &section.place_of("path"),
                format!("another volume is at `{}`", shown(&path)),
                "give each a path of its own",
            );
        }
        volumes.push(VolumeSpec {
            name,
            path,
            read_only,
        });
    }
    volumes
}
