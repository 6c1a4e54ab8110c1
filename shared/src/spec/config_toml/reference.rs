//! Every key that Config.toml understands: the one list that the parser and the guide share.
//!
//! The parser takes a key for unknown when it is not here, and `docs/guide/config-toml.md` is
//! checked against [`markdown`] in a test, so neither can say more than the other.

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// The section it stands in.
    pub section: &'static str,
    /// Its name; `*` when any name is taken.
    pub key: &'static str,
    /// What kind of value it takes.
    pub kind: &'static str,
    /// What holds when it is absent; empty when nothing does.
    pub default: &'static str,
    /// What it means.
    pub description: &'static str,
}

/// The sections, in the order of the guide; `volumes` is an array of tables.
pub const SECTIONS: [&str; 7] = [
    "app",
    "config",
    "env",
    "deploy",
    "health",
    "resources",
    "volumes",
];

const fn key(
    section: &'static str,
    key: &'static str,
    kind: &'static str,
    default: &'static str,
    description: &'static str,
) -> KeyDoc {
    KeyDoc {
        section,
        key,
        kind,
        default,
        description,
    }
}

/// Every key.
pub const KEYS: &[KeyDoc] = &[
    key(
        "app",
        "name",
        "string",
        "",
        "The application's name, shown to people. The deployment's own name is chosen when it is created.",
    ),
    key(
        "app",
        "version",
        "string",
        "",
        "The application's version, shown to people.",
    ),
    key(
        "app",
        "author",
        "string",
        "",
        "Who wrote it, shown to people.",
    ),
    key(
        "app",
        "endpoint",
        "any",
        "",
        "Accepted for files written for Kraken; not used.",
    ),
    key(
        "app",
        "test",
        "any",
        "",
        "Accepted for files written for Kraken; not used.",
    ),
    key(
        "config",
        "lang",
        "`\"python\"`, `\"python3\"`, `\"node\"` or `\"static\"`",
        "",
        "Builds with a built-in Dockerfile for this language. Exactly one of `lang` and `dockerfile` is needed.",
    ),
    key(
        "config",
        "dockerfile",
        "string",
        "",
        "Builds with this Dockerfile of the repository: a relative path, without `..`.",
    ),
    key(
        "config",
        "run",
        "string",
        "the image's own command",
        "The command that starts the application. It is split into words as a shell would, quotes included, but no shell runs it: `&&`, `|` and `$NAME` have no meaning. Not for `lang = \"static\"`.",
    ),
    key(
        "config",
        "port",
        "whole number, 1 to 65535",
        "`8000` with `lang`; none with `dockerfile`",
        "The port that the application listens on in its container. A built-in image gets it as `PORT` in its environment. Without a port nothing is exposed, and the application is healthy as long as it keeps running.",
    ),
    key(
        "config",
        "domain",
        "string",
        "",
        "The host name under which an ingress serves it. Needs a port.",
    ),
    key(
        "config",
        "endpoint",
        "any",
        "",
        "Accepted for files written for Kraken; not used.",
    ),
    key(
        "config",
        "test",
        "any",
        "",
        "Accepted for files written for Kraken; not used.",
    ),
    key(
        "env",
        "*",
        "string, whole number or boolean",
        "",
        "A plain value for the application's environment. Names have letters, digits and underscores and do not start with a digit; those that start with `LONGSHORE_` are reserved. Secrets do not belong in a repository.",
    ),
    key(
        "deploy",
        "method",
        "`\"blind\"`, `\"simple\"`, `\"rolling\"` or `\"canary\"`",
        "`\"rolling\"`",
        "How a new revision replaces the old one. `rolling` is what this release does: start the new one beside the old, verify, switch, stop the old. The others are accepted with a warning and work as `rolling`.",
    ),
    key(
        "deploy",
        "methode",
        "as `method`",
        "",
        "Another spelling of `method`.",
    ),
    key(
        "health",
        "path",
        "string",
        "",
        "Healthy when an HTTP GET of this path on the port answers 2xx or 3xx. Starts with `/`.",
    ),
    key(
        "health",
        "command",
        "array of strings",
        "",
        "Healthy when this command, run in the container, ends with 0.",
    ),
    key(
        "health",
        "tcp",
        "`true`",
        "",
        "Healthy when the port takes a TCP connection. At most one of `path`, `command` and `tcp` is given; with none, the image's own HEALTHCHECK decides, else a TCP connection to the port, else that the container keeps running.",
    ),
    key(
        "health",
        "interval",
        "duration, 100 ms to 1 h",
        "`\"5s\"`",
        "The time between two checks while it runs; before the first success it is asked much more often.",
    ),
    key(
        "health",
        "timeout",
        "duration, 100 ms to 10 min",
        "`\"3s\"`",
        "How long one check may take.",
    ),
    key(
        "health",
        "retries",
        "whole number, 1 to 100",
        "`3`",
        "How many checks in a row must fail before it is unhealthy.",
    ),
    key(
        "health",
        "start_period",
        "duration, up to 1 h",
        "`\"30s\"`",
        "How long after the start failed checks do not count.",
    ),
    key(
        "resources",
        "memory",
        "string such as `\"256M\"`, or bytes",
        "the node's own",
        "The most memory it may use; at least 6 MiB.",
    ),
    key(
        "resources",
        "cpus",
        "number such as `0.5`",
        "the node's own",
        "The most processor time it may use, in cores.",
    ),
    key(
        "resources",
        "pids",
        "whole number, from 1",
        "the node's own",
        "The most processes and threads it may have.",
    ),
    key(
        "volumes",
        "name",
        "string",
        "",
        "The volume's name: a DNS label. Needed. A volume is kept over revisions, and when the deployment is destroyed unless its removal is asked for.",
    ),
    key(
        "volumes",
        "path",
        "string",
        "",
        "Where it is in the container: an absolute path. Needed.",
    ),
    key(
        "volumes",
        "read_only",
        "boolean",
        "`false`",
        "Whether the application may only read it.",
    ),
];

/// The keys of a section.
pub fn keys_of(section: &str) -> impl Iterator<Item = &'static KeyDoc> {
    KEYS.iter().filter(move |doc| doc.section == section)
}

/// The reference as Markdown: one table a section.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let header = if section == "volumes" {
            "[[volumes]]".to_owned()
        } else {
            format!("[{section}]")
        };
        text.push_str(&format!(
            "### `{header}`\n\n| key | value | default | meaning |\n|---|---|---|---|\n"
        ));
        for doc in keys_of(section) {
            let name = if doc.key == "*" {
                "any name".to_owned()
            } else {
                format!("`{}`", doc.key)
            };
            text.push_str(&format!(
                "| {name} | {} | {} | {} |\n",
                doc.kind, doc.default, doc.description
            ));
        }
        text.push('\n');
    }
    text.replace(" |  | ", " | | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str =
        "<!-- reference: generated from shared/src/spec/config_toml/reference.rs -->\n\n";
    const END: &str = "<!-- end of reference -->";

    /// `UPDATE_REFERENCE=1` writes the tables into the guide instead.
    #[test]
    fn the_guide_says_what_the_parser_knows() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide/config-toml.md");
        let guide = std::fs::read_to_string(path).unwrap();
        let (before, rest) = guide.split_once(BEGIN).expect("the mark of the reference");
        let (tables, after) = rest.split_once(END).expect("the mark of its end");
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", markdown())).unwrap();
        } else {
            assert!(
                tables == markdown(),
                "run: UPDATE_REFERENCE=1 cargo test -p shared the_guide_says"
            );
        }
    }

    #[test]
    fn each_key_is_listed_once_in_a_section_that_exists() {
        for doc in KEYS {
            assert!(SECTIONS.contains(&doc.section), "{doc:?}");
            assert_eq!(
                keys_of(doc.section)
                    .filter(|other| other.key == doc.key)
                    .count(),
                1,
                "{doc:?}"
            );
        }
    }
}
