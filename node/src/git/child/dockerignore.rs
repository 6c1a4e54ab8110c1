//! `.dockerignore`, by Docker's rules: patterns are anchored at the root of the build context, the
//! last one that matches a path or a folder above it decides, `!` takes back in.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use shared::name::shown;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The most patterns that are taken: they are compiled into one automaton.
const PATTERN_LIMIT: usize = 1000;

/// The patterns of one build context.
#[derive(Debug, Default)]
pub(super) struct Ignore {
    patterns: GlobSet,
    /// For each pattern whether it takes back in.
    keeps: Vec<bool>,
}

impl Ignore {
    /// Reads the file. An error says what is wrong in words for the user.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut patterns = GlobSetBuilder::new();
        let mut keeps = Vec::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let pattern = cleaned(pattern);
            if pattern.is_empty() {
                continue;
            }
            let glob = GlobBuilder::new(&pattern)
                .literal_separator(true)
                .backslash_escape(true)
                .build();
            patterns.add(
                glob.map_err(|error| {
                    format!("the pattern `{}`: {}", shown(&pattern), error.kind())
                })?,
            );
            keeps.push(keep);
            if keeps.len() > PATTERN_LIMIT {
                return Err(format!("it has more than {PATTERN_LIMIT} patterns"));
            }
        }
        let patterns = patterns.build().map_err(|error| error.to_string())?;
        Ok(Self { patterns, keeps })
    }

    /// Whether a path stays out of the build context.
    pub(super) fn leaves_out(&self, path: &[u8]) -> bool {
        if self.keeps.is_empty() {
            return false;
        }
        let path = Path::new(OsStr::from_bytes(path));
        let deciding = path
            .ancestors()
            .filter(|part| !part.as_os_str().is_empty())
            .filter_map(|part| self.patterns.matches(part).into_iter().max())
            .max();
        deciding.is_some_and(|index| !self.keeps[index])
    }
}

/// Without a leading `/`, empty and `.` parts; `..` cannot leave the root.
fn cleaned(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_own_rules() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("", &[], &["a", "a/b"]),
            ("# a\n\n  \n", &[], &["a", "# a"]),
            ("a", &["a", "a/b", "a/b/c"], &["b/a", "ab"]),
            ("/a/", &["a", "a/b"], &["b/a"]),
            ("./a//b", &["a/b"], &["a"]),
            ("*.md", &["x.md"], &["a/x.md"]),
            ("*/x", &["a/x", "a/x/y"], &["x", "a/b/x"]),
            ("**/x", &["x", "a/x", "a/b/x", "a/x/y"], &["ax"]),
            ("a/**", &["a/b", "a/b/c"], &["b"]),
            ("**", &["a", "a/b"], &[]),
            ("a?c", &["abc"], &["ac", "a/c"]),
            ("[ab]", &["a", "b"], &["c"]),
            ("*\n!keep", &["a", "a/keep"], &["keep", "keep/x"]),
            ("a\n!a/b\na/b/c", &["a/x", "a/b/c"], &["a/b", "a/b/x"]),
            ("!a\na", &["a"], &["b"]),
            ("*.md\n!README.md", &["x.md"], &["README.md"]),
            ("\\!x", &["!x"], &["x"]),
        ];
        for (text, left_out, kept) in table {
            let ignore = Ignore::parse(text).unwrap();
            for path in *left_out {
                assert!(
                    ignore.leaves_out(path.as_bytes()),
                    "{text:?} should leave out {path}"
                );
            }
            for path in *kept {
                assert!(
                    !ignore.leaves_out(path.as_bytes()),
                    "{text:?} should keep {path}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(Ignore::parse("[").is_err());
        assert!(Ignore::parse(&"a\n".repeat(1001)).is_err());
    }
}
