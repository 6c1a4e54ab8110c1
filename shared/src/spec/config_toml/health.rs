//! `[health]`: when the application counts as healthy.

use super::reader::{Found, Reader, Section, kind_of};
use super::sections::accept;
use super::value::{self, Refusal};
use crate::name::shown;
use crate::spec::{HealthCheck, HealthSpec};
use std::time::Duration;
use toml_edit::{Item, Value};

/// Reads the section; what it leaves out is as usual.
pub(super) fn health(
    reader: &mut Reader<'_>,
    root: &toml_edit::Table,
    has_port: bool,
) -> HealthSpec {
    let section = Section::open(reader, root, "health");
    let usual = HealthSpec::default();
    let (ms, second, hour) = (
        Duration::from_millis(1),
        Duration::from_secs(1),
        Duration::from_secs(3600),
    );
    HealthSpec {
        check: health_check(reader, &section, has_port),
        interval: duration(reader, &section, "interval", ms * 100, hour).unwrap_or(usual.interval),
        timeout: duration(reader, &section, "timeout", ms * 100, second * 600)
            .unwrap_or(usual.timeout),
        retries: section
            .integer(reader, "retries", 1..=100)
            .and_then(|found| u32::try_from(found.value).ok())
            .unwrap_or(usual.retries),
        start_period: duration(reader, &section, "start_period", Duration::ZERO, hour)
            .unwrap_or(usual.start_period),
    }
}

fn health_check(reader: &mut Reader<'_>, section: &Section<'_>, has_port: bool) -> HealthCheck {
    let given: Vec<&str> = ["path", "command", "tcp"]
        .into_iter()
        .filter(|key| section.has(key))
        .collect();
    if let [first, second, ..] = given[..] {
        let wrong = format!("both `{first}` and `{second}` are given");
        reader.refuse(
            &section.place_of(second),
            wrong,
            "keep one of path, command and tcp",
        );
    }
    let path_found = section.string(reader, "path", "\"/healthz\"");
    let path = accept(reader, path_found, http_path);
    let command = health_command(reader, section);
    let tcp = section.boolean(reader, "tcp");
    if let Some(Found {
        value: false,
        place,
    }) = &tcp
    {
        reader.refuse(
            place,
            "this cannot be switched off, it is only one of the checks",
            "remove this key, or write tcp = true",
        );
    }
    if !has_port {
        for key in given.iter().filter(|key| **key != "command") {
            reader.refuse(
                &section.place_of(key),
                "there is no port to ask",
                "set config.port to the port that the application listens on",
            );
        }
    }
    match (path, command, tcp) {
        (Some(path), ..) => HealthCheck::Http { path },
        (_, Some(command), _) => HealthCheck::Command { command },
        (.., Some(_)) => HealthCheck::Tcp,
        _ => HealthCheck::Default,
    }
}

fn http_path(text: &str) -> Result<String, Refusal> {
    let right = || "give a path such as /healthz, without spaces".to_owned();
    if !text.starts_with('/') || text.contains('#') {
        return Err((format!("`{}` is not an HTTP path", shown(text)), right()));
    }
    if text.len() > value::TEXT_LIMIT || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err((
            "it is too long, or has spaces, control characters or characters beyond ASCII"
                .to_owned(),
            right(),
        ));
    }
    Ok(text.to_owned())
}

fn health_command(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Vec<String>> {
    let Found { value: item, place } = section.any("command")?;
    let right =
        "give a list of words, such as command = [\"curl\", \"-f\", \"http://localhost:8000/\"]";
    let Some(array) = item.as_array() else {
        reader.refuse(
            &place,
            format!("this is {}, not a list", kind_of(item)),
            right,
        );
        return None;
    };
    let words: Option<Vec<String>> = array
        .iter()
        .map(|word| word.as_str().map(str::to_owned))
        .collect();
    let Some(words) = words else {
        reader.refuse(&place, "not every entry of this list is a text", right);
        return None;
    };
    accept(
        reader,
        Some(Found {
            value: words,
            place,
        }),
        value::argv,
    )
}

/// A duration, as text with a unit or as whole seconds.
fn duration(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    least: Duration,
    most: Duration,
) -> Option<Duration> {
    let found = section.any(key)?;
    accept(reader, Some(found), |item: &Item| {
        let right = || {
            format!(
                "give a duration from {} to {}, such as {key} = \"5s\"",
                value::spoken(least),
                value::spoken(most)
            )
        };
        let read = match item.as_value() {
            Some(Value::String(text)) => value::duration(text.value()).ok_or_else(|| {
                (
                    format!("`{}` is not a duration", shown(text.value())),
                    right(),
                )
            })?,
            Some(Value::Integer(seconds)) => match u64::try_from(*seconds.value()) {
                Ok(seconds) => Duration::from_secs(seconds),
                Err(_) => return Err((format!("{} is not a duration", seconds.value()), right())),
            },
            _ => return Err((format!("this is {}", kind_of(item)), right())),
        };
        if (least..=most).contains(&read) {
            Ok(read)
        } else {
            Err((format!("{} is out of range", value::spoken(read)), right()))
        }
    })
}
