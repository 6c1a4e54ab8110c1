//! `.gitmodules`: only the part of Git's configuration language that Git itself writes into it.
//!
//! A general reader would follow `[include]` to files of this machine; this one knows sections
//! `[submodule "name"]` with `key = value` lines, and refuses what it does not know.

use shared::name::shown;
use shared::source::{GitUrl, GitUrlError, RepoPath};

/// A repository within the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// Where it stands.
    pub(super) path: RepoPath,
    /// Where it comes from, as written: perhaps relative.
    pub(super) url: String,
}

/// Reads the file. An error says what is wrong in words for the user.
pub(super) fn parse(text: &str) -> Result<Vec<Module>, String> {
    let mut modules = Vec::new();
    let mut section: Option<(Option<RepoPath>, Option<String>)> = None;
    let mut finish = |section: Option<(Option<RepoPath>, Option<String>)>| {
        // A section without a path or URL is Git's own way of keeping a name; nothing is fetched.
        if let Some((Some(path), Some(url))) = section {
            modules.push(Module { path, url });
        }
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let wrong = |what: &str| format!(".gitmodules, line {}: {what}", number + 1);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') {
            let named = line
                .strip_prefix("[submodule \"")
                .and_then(|rest| rest.strip_suffix("\"]"));
            let Some(name) = named.filter(|name| !name.contains(['"', '\\', ']'])) else {
                return Err(wrong("only sections [submodule \"name\"] are understood"));
            };
            if name.split('/').any(|part| part == "..") {
                return Err(wrong("the name leads out of the repository"));
            }
            finish(section.replace((None, None)));
            continue;
        }
        let (Some((key, value)), Some(section)) = (line.split_once('='), section.as_mut()) else {
            return Err(wrong("only `key = value` within a section is understood"));
        };
        let value = unquoted(value.trim())
            .ok_or_else(|| wrong("the value has characters that are not understood"))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "path" => {
                section.0 = Some(RepoPath::parse(value).map_err(|error| wrong(&error.to_string()))?)
            }
            "url" => section.1 = Some(value.to_owned()),
            // How Git would update or show it is of no matter: nothing is ever run.
            _ => {}
        }
    }
    finish(section);
    Ok(modules)
}

fn unquoted(value: &str) -> Option<&str> {
    let value = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => value,
    };
    let plain = !value
        .chars()
        .any(|c| c.is_control() || matches!(c, '"' | '\\' | ';' | '#'));
    plain.then_some(value)
}

/// The address of a submodule. One that begins with `./` or `../` is relative to its parent's.
pub(super) fn resolve(parent: &GitUrl, url: &str) -> Result<GitUrl, GitUrlError> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return GitUrl::parse(url);
    }
    let refused = || GitUrlError::NotAUrl {
        shown: shown(url),
        rule: "a relative address must stay on its parent's server",
    };
    let mut parts: Vec<&str> = parent
        .as_url()
        .path()
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let mut rest = url;
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            parts.pop().ok_or_else(refused)?;
            rest = after;
        } else {
            break;
        }
    }
    parts.extend(rest.split('/').filter(|part| !part.is_empty()));
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(refused());
    }
    let mut resolved = parent.as_url().clone();
    resolved.set_path(&parts.join("/"));
    GitUrl::parse(resolved.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_writes_is_read() {
        let text = "# x\n[submodule \"lib/a\"]\n\tpath = lib/a\n\turl = ../a.git\n\tbranch = main\n[submodule \"b\"]\n\turl = \"https://x.example/b\"\n\tpath = b\n[submodule \"empty\"]\n";
        let modules = parse(text).unwrap();
        let seen: Vec<_> = modules
            .iter()
            .map(|module| (module.path.as_str(), module.url.as_str()))
            .collect();
        assert_eq!(seen, [("lib/a", "../a.git"), ("b", "https://x.example/b")]);
    }

    #[test]
    fn what_git_would_follow_or_run_is_refused() {
        for text in [
            "[include]\n\tpath = /etc/passwd",
            "[submodule \"a\"] [include]\npath = /etc/passwd",
            "[submodule \"a\"]\n[includeIf \"x\"]",
            "[submodule \"../../hooks\"]\n\tpath = x\n\turl = y",
            "[submodule \"a\"]\n\tpath = ../x",
            "[submodule \"a\"]\n\tpath = .git/modules",
            "[submodule \"a\"]\n\tpath = \"a\rb\"",
            "[submodule \"a\"]\n\tpath = -u",
            "[submodule \"a\"]\n\tpath = x\\\ny",
            "path = x",
            "[submodule \"a\"]\nnonsense",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_relative_address_stays_on_its_server() {
        let parent = GitUrl::parse("https://x.example/team/app.git").unwrap();
        for (url, resolved) in [
            ("../lib.git", Some("https://x.example/team/lib.git")),
            ("../../other/lib", Some("https://x.example/other/lib")),
            ("./lib", Some("https://x.example/team/app.git/lib")),
            ("ssh://git@y.example/lib", Some("ssh://git@y.example/lib")),
            ("../../../lib", None),
            ("../../", None),
            ("../a/../../../x", None),
            ("-uexec", None),
            ("ext::sh", None),
            ("/srv/x", None),
        ] {
            let found = resolve(&parent, url).ok();
            assert_eq!(found.as_ref().map(GitUrl::as_str), resolved, "{url}");
        }
    }
}
