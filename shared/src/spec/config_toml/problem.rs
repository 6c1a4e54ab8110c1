//! What can be wrong with a file, said so that a person can act on it.

/// One thing that is wrong, or probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key with its section, such as `config.port`; empty when it is about the whole file.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl std::fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.wrong, self.right)
    }
}

/// Everything that is wrong with a file. Its text has one line a problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct ConfigError {
    /// The problems, in the order of the file; at least one.
    pub problems: Vec<ConfigProblem>,
    /// How many more there are that are not listed.
    pub omitted: usize,
}

impl ConfigError {
    /// A single problem with the file as a whole.
    pub(super) fn of_file(file: &str, wrong: String, right: &str) -> Self {
        let problem = ConfigProblem {
            file: file.to_owned(),
            line: 1,
            column: 1,
            key: String::new(),
            wrong,
            right: right.to_owned(),
        };
        Self {
            problems: vec![problem],
            omitted: 0,
        }
    }

    fn text(&self) -> String {
        let mut lines: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        if self.omitted > 0 {
            lines.push(format!("and {} more", self.omitted));
        }
        lines.join("\n")
    }
}
