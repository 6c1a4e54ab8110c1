//! Built-in Dockerfiles: a pure function of what the configuration says and which files are there.
//!
//! The application is in the folder `app` of the build context, so that no file of it can be taken
//! for the Dockerfile. It runs as user 1000, who owns it and its volumes. Only what engine 20.10
//! builds is used: no heredoc, no `COPY --link`, no `# syntax=`.

use serde::Deserialize;
use shared::source::ImageRef;
use shared::spec::Lang;
use std::collections::BTreeMap;

/// The folder of the build context that holds the application.
pub(super) const FOLDER: &str = "app";

/// What the application runs as.
const USER: &str = "1000:1000";

/// What is asked of a built-in Dockerfile.
pub(super) struct Ask<'a> {
    pub(super) lang: Lang,
    pub(super) base: &'a ImageRef,
    /// The configured command.
    pub(super) command: Option<&'a [String]>,
    /// The port that the application listens on.
    pub(super) port: Option<u16>,
    /// Where its volumes are.
    pub(super) volumes: Vec<&'a str>,
}

/// What the top folder of the application holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The names of its files.
    pub(super) files: Vec<String>,
    /// Its package.json.
    pub(super) package: Option<Package>,
}

impl Facts {
    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }

    fn first_of(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.has(name))
    }
}

/// The part of a package.json that decides what is run.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Package {
    #[serde(default)]
    scripts: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    dependencies: BTreeMap<String, serde_json::Value>,
}

/// The Dockerfile, or what is missing in words for the user.
pub(super) fn dockerfile(ask: &Ask<'_>, facts: &Facts) -> Result<String, String> {
    let mut lines = vec![format!("FROM {}", ask.base)];
    if let Some(port) = ask.port {
        lines.push(format!("ENV PORT={port}"));
    }
    let usual = match ask.lang {
        Lang::Python3 => python3(&mut lines, ask, facts),
        Lang::Node => node(&mut lines, ask, facts),
        Lang::Static => static_files(&mut lines, ask),
    };
    let command = match (ask.command, usual) {
        (Some(command), _) => command.to_vec(),
        (None, Ok(usual)) => usual,
        (None, Err(missing)) => return Err(missing),
    };
    lines.push(format!("USER {USER}"));
    lines.push(format!("CMD {}", json(&command)));
    lines.push(String::new());
    Ok(lines.join("\n"))
}

fn python3(lines: &mut Vec<String>, ask: &Ask<'_>, facts: &Facts) -> Result<Vec<String>, String> {
    lines.push("ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp".to_owned());
    folders(lines, "/app", ask);
    if facts.has("requirements.txt") {
        lines.push(format!("COPY {FOLDER}/requirements.txt ./"));
        lines.push(run(&[
            "pip",
            "install",
            "--no-cache-dir",
            "--disable-pip-version-check",
            "-r",
            "requirements.txt",
        ]));
    }
    lines.push(format!("COPY --chown={USER} {FOLDER}/ ./"));
    let main = facts.first_of(&["main.py", "app.py"]);
    main.map(|main| words(&["python3", main]))
        .ok_or_else(|| "lang = \"python3\" starts main.py or app.py, and the repository has neither: say what to start by run = \"python3 …\"".to_owned())
}

fn node(lines: &mut Vec<String>, ask: &Ask<'_>, facts: &Facts) -> Result<Vec<String>, String> {
    lines.push("ENV NODE_ENV=production HOME=/tmp".to_owned());
    folders(lines, "/app", ask);
    let flags = ["--omit=dev", "--no-audit", "--no-fund"];
    if let Some(package) = &facts.package {
        let lock = facts.first_of(&["package-lock.json", "npm-shrinkwrap.json"]);
        if let Some(lock) = lock {
            lines.push(format!("COPY {FOLDER}/package.json {FOLDER}/{lock} ./"));
            lines.push(run(&[&["npm", "ci"][..], &flags].concat()));
        } else if !package.dependencies.is_empty() {
            lines.push(format!("COPY {FOLDER}/package.json ./"));
            lines.push(run(&[&["npm", "install"][..], &flags].concat()));
        }
    }
    lines.push(format!("COPY --chown={USER} {FOLDER}/ ./"));
    if facts
        .package
        .as_ref()
        .is_some_and(|package| package.scripts.contains_key("start"))
    {
        return Ok(words(&["npm", "start"]));
    }
    let main = facts.first_of(&["server.js", "index.js", "server.mjs", "index.mjs"]);
    main.map(|main| words(&["node", main]))
        .ok_or_else(|| "lang = \"node\" starts the script `start` of package.json, server.js or index.js, and the repository has none: say what to start by run = \"node …\"".to_owned())
}

fn static_files(lines: &mut Vec<String>, ask: &Ask<'_>) -> Result<Vec<String>, String> {
    folders(lines, "/www", ask);
    lines.push(format!("COPY --chown={USER} {FOLDER}/ ./"));
    let port = ask
        .port
        .unwrap_or(shared::spec::config_toml::DEFAULT_PORT)
        .to_string();
    // -vv: every request is a line of the service's log.
    Ok(words(&["httpd", "-f", "-vv", "-p", &port, "-h", "/www"]))
}

/// The working directory and the volumes' directories, which the user owns: a new volume takes
/// over the owner of the directory that it covers.
fn folders(lines: &mut Vec<String>, home: &str, ask: &Ask<'_>) {
    let command = [
        &["install", "-d", "-o", "1000", "-g", "1000", home][..],
        &ask.volumes,
    ]
    .concat();
    lines.push(run(&command));
    lines.push(format!("WORKDIR {home}"));
}

fn run(command: &[&str]) -> String {
    format!("RUN {}", json(&words(command)))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The exec form: no shell, and no line break can leave the string.
fn json(words: &[String]) -> String {
    serde_json::Value::from(words).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask<'a>(lang: Lang, base: &'a ImageRef, command: Option<&'a [String]>) -> Ask<'a> {
        Ask {
            lang,
            base,
            command,
            port: Some(8000),
            volumes: vec!["/data"],
        }
    }

    fn facts(files: &[&str], package: Option<&str>) -> Facts {
        Facts {
            files: words(files),
            package: package.map(|text| serde_json::from_str(text).unwrap()),
        }
    }

    fn check(lang: Lang, command: Option<&[&str]>, facts: &Facts, parts: &[&str]) {
        let base = ImageRef::parse("base:1").unwrap();
        let command = command.map(words);
        let text = dockerfile(&ask(lang, &base, command.as_deref()), facts).unwrap();
        let mut rest = text.as_str();
        for part in parts {
            let at = rest
                .find(part)
                .unwrap_or_else(|| panic!("no {part:?} (in this order) in:\n{text}"));
            rest = &rest[at..];
        }
        assert!(
            text.starts_with("FROM base:1\n") && text.contains("USER 1000:1000\n"),
            "{text}"
        );
    }

    #[test]
    fn python() {
        check(
            Lang::Python3,
            None,
            &facts(&["main.py", "requirements.txt"], None),
            &[
                "\"/app\",\"/data\"",
                "COPY app/requirements.txt",
                "RUN [\"pip\"",
                "COPY --chown=1000:1000 app/ ./",
                "CMD [\"python3\",\"main.py\"]",
            ],
        );
        check(
            Lang::Python3,
            Some(&["python3", "./src/a b.py"]),
            &facts(&[], None),
            &["CMD [\"python3\",\"./src/a b.py\"]"],
        );
        check(
            Lang::Python3,
            None,
            &facts(&["app.py"], None),
            &["CMD [\"python3\",\"app.py\"]"],
        );
    }

    #[test]
    fn node_js() {
        let start = r#"{"scripts": {"start": "node x.js"}, "dependencies": {"express": "4"}}"#;
        check(
            Lang::Node,
            None,
            &facts(&["package-lock.json"], Some(start)),
            &["package-lock.json", "\"ci\"", "CMD [\"npm\",\"start\"]"],
        );
        check(
            Lang::Node,
            None,
            &facts(&[], Some(start)),
            &["\"npm\",\"install\"", "CMD"],
        );
        check(
            Lang::Node,
            None,
            &facts(&["server.js"], Some("{}")),
            &["CMD [\"node\",\"server.js\"]"],
        );
    }

    #[test]
    fn static_pages() {
        check(
            Lang::Static,
            None,
            &facts(&["index.html"], None),
            &["CMD [\"httpd\",\"-f\",\"-vv\",\"-p\",\"8000\",\"-h\",\"/www\"]"],
        );
    }

    #[test]
    fn nothing_to_start_is_said() {
        let base = ImageRef::parse("base:1").unwrap();
        for lang in [Lang::Python3, Lang::Node] {
            let error = dockerfile(&ask(lang, &base, None), &Facts::default()).unwrap_err();
            assert!(error.contains("run ="), "{error}");
        }
    }

    #[test]
    fn a_command_cannot_leave_its_line() {
        let base = ImageRef::parse("base:1").unwrap();
        let command = words(&["x\"]\nRUN evil", "\\"]);
        let text =
            dockerfile(&ask(Lang::Static, &base, Some(&command)), &Facts::default()).unwrap();
        assert!(
            !text.lines().any(|line| line.starts_with("RUN evil")),
            "{text}"
        );
    }
}
