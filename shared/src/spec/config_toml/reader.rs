//! The document, read key by key: values with their places, and what is wrong, gathered up.

use super::problem::{ConfigError, ConfigProblem};
use super::reference::{KEYS, SECTIONS, keys_of};
use super::{DeploymentSpec, Parsed};
use crate::name::shown;
use std::ops::Range;
use toml_edit::{Item, Key, TableLike, Value};

/// The most problems, and the most warnings, that are listed; the rest are counted. A person fixes
/// a handful at a time, and a hostile file must not become a book.
const LISTED: usize = 40;

/// Where a key or value stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    key: String,
    offset: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// Gathers problems and warnings, and knows lines and columns.
pub(super) struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
    problems: Vec<(usize, ConfigProblem)>,
    problems_omitted: usize,
    warnings: Vec<ConfigProblem>,
    warnings_omitted: usize,
    /// The names that do not exist, which warnings tell of: what is missing may be meant by one.
    unknown: Vec<(usize, ConfigProblem)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let after_breaks = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(index, _)| index + 1);
        let line_starts = std::iter::once(0).chain(after_breaks).collect();
        Self {
            file,
            text,
            line_starts,
            problems: vec![],
            problems_omitted: 0,
            warnings: vec![],
            warnings_omitted: 0,
            unknown: vec![],
        }
    }

    /// Notes something wrong; the file is refused.
    pub(super) fn refuse(
        &mut self,
        place: &Place,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) {
        if self.problems.len() >= LISTED {
            self.problems_omitted += 1;
            return;
        }
        let problem = self.problem(place, wrong.into(), right.into());
        self.problems.push((place.offset, problem));
    }

    /// Notes something that is probably not meant.
    pub(super) fn warn(
        &mut self,
        place: &Place,
        wrong: impl Into<String>,
        right: impl FnOnce() -> String,
    ) {
        if self.warnings.len() >= LISTED {
            self.warnings_omitted += 1;
            return;
        }
        let problem = self.problem(place, wrong.into(), right());
        self.warnings.push(problem);
    }

    /// Warns of a name that does not exist. Where the file is refused that is said with the rest.
    fn warn_of_unknown(&mut self, place: &Place, wrong: &str, right: impl FnOnce() -> String) {
        let before = self.warnings.len();
        self.warn(place, wrong, right);
        let noted = self.warnings.iter().skip(before).cloned();
        self.unknown
            .extend(noted.map(|problem| (place.offset, problem)));
    }

    fn problem(&self, place: &Place, wrong: String, right: String) -> ConfigProblem {
        let (line, column) = self.position(place.offset);
        ConfigProblem {
            file: self.file.to_owned(),
            line,
            column,
            key: place.key.clone(),
            wrong,
            right,
        }
    }

    /// Line and column of a byte, both from 1.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self
            .line_starts
            .partition_point(|start| *start <= offset)
            .max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or("");
        (line, before.chars().count() + 1)
    }

    /// The error for a text that is not TOML.
    pub(super) fn not_toml(mut self, span: Option<Range<usize>>, message: &str) -> ConfigError {
        let place = Place {
            key: String::new(),
            offset: span.map_or(0, |span| span.start),
        };
        // The parser's message says what it expected; only its display would quote the line.
        let wrong = format!("this is not TOML: {}", shown(&message.replace('\n', ", ")));
        self.refuse(
            &place,
            wrong,
            "write key = \"value\" under a [section]; texts stand in quotes",
        );
        self.into_error()
    }

    /// The result: the spec when nothing was refused.
    pub(super) fn finish(mut self, spec: Option<DeploymentSpec>) -> Result<Parsed, ConfigError> {
        if self.problems.is_empty()
            && let Some(spec) = spec
        {
            if self.warnings_omitted > 0 {
                let place = Place {
                    key: String::new(),
                    offset: 0,
                };
                let wrong = format!("{} more warnings are not listed", self.warnings_omitted);
                let summary = self.problem(&place, wrong, "mend those above first".to_owned());
                self.warnings.push(summary);
            }
            return Ok(Parsed {
                spec,
                warnings: self.warnings,
            });
        }
        Err(self.into_error())
    }

    fn into_error(mut self) -> ConfigError {
        self.problems.append(&mut self.unknown);
        self.problems.sort_by_key(|(offset, _)| *offset);
        ConfigError {
            problems: self
                .problems
                .into_iter()
                .map(|(_, problem)| problem)
                .collect(),
            omitted: self.problems_omitted,
        }
    }

    /// Warns of sections that do not exist and of keys outside any section.
    pub(super) fn check_sections(&mut self, root: &toml_edit::Table) {
        for (name, item) in root.iter().filter(|(name, _)| !SECTIONS.contains(name)) {
            let place = Place {
                key: shown(name),
                offset: offset_of(root.key(name), item),
            };
            let wrong = if item.is_table_like() || item.is_array_of_tables() {
                "there is no such section"
            } else {
                "this key stands outside any section"
            };
            self.warn_of_unknown(&place, wrong, || {
                elsewhere(name)
                    .unwrap_or_else(|| nearest(name, SECTIONS.into_iter(), "the sections are"))
            });
        }
    }
}

/// One section of the file, or one table of an array.
pub(super) struct Section<'d> {
    name: &'static str,
    /// As it is shown: `config`, or `volumes[2]`.
    label: String,
    table: Option<&'d dyn TableLike>,
    offset: usize,
}

impl<'d> Section<'d> {
    /// The section of that name, with a warning for each key in it that does not exist. Absent, it
    /// reads as empty.
    pub(super) fn open(
        reader: &mut Reader<'_>,
        root: &'d toml_edit::Table,
        name: &'static str,
    ) -> Self {
        let Some(item) = root.get(name) else {
            return Self {
                name,
                label: name.to_owned(),
                table: None,
                offset: 0,
            };
        };
        let offset = offset_of(root.key(name), item);
        let table = item.as_table_like();
        if table.is_none() {
            let place = Place {
                key: name.to_owned(),
                offset,
            };
            let right = format!("write [{name}] on a line of its own and its keys below");
            reader.refuse(
                &place,
                format!("this is {}, not a section", kind_of(item)),
                right,
            );
        }
        Self {
            name,
            label: name.to_owned(),
            table,
            offset,
        }
        .checked(reader)
    }

    /// The tables of an array of that name.
    pub(super) fn open_each(
        reader: &mut Reader<'_>,
        root: &'d toml_edit::Table,
        name: &'static str,
    ) -> Vec<Self> {
        let Some(item) = root.get(name) else {
            return vec![];
        };
        let offset = offset_of(root.key(name), item);
        let tables: Option<Vec<&dyn TableLike>> = match item {
            Item::ArrayOfTables(tables) => {
                Some(tables.iter().map(|table| table as &dyn TableLike).collect())
            }
            Item::Value(Value::Array(array)) => array
                .iter()
                .map(|value| value.as_inline_table().map(|table| table as &dyn TableLike))
                .collect(),
            _ => None,
        };
        let Some(tables) = tables else {
            let place = Place {
                key: name.to_owned(),
                offset,
            };
            let right = format!("write [[{name}]], in double brackets, once for each");
            reader.refuse(
                &place,
                format!("this is {}, not a list of sections", kind_of(item)),
                right,
            );
            return vec![];
        };
        let numbered = tables.into_iter().enumerate();
        numbered
            .map(|(index, table)| {
                let first_key = table
                    .iter()
                    .next()
                    .and_then(|(key, item)| table.key(key).map(|key| offset_of(Some(key), item)));
                let label = format!("{name}[{}]", index + 1);
                Self {
                    name,
                    label,
                    table: Some(table),
                    offset: first_key.unwrap_or(offset),
                }
                .checked(reader)
            })
            .collect()
    }

    fn checked(self, reader: &mut Reader<'_>) -> Self {
        let any_key = keys_of(self.name).any(|doc| doc.key == "*");
        if any_key {
            return self;
        }
        for (key, item) in self.table.iter().flat_map(|table| table.iter()) {
            if keys_of(self.name).any(|doc| doc.key == key) {
                continue;
            }
            let place = Place {
                key: format!("{}.{}", self.label, shown(key)),
                offset: offset_of(self.table.and_then(|table| table.key(key)), item),
            };
            let known = || keys_of(self.name).map(|doc| doc.key);
            let advice = || nearest(key, known(), &format!("the keys of [{}] are", self.name));
            reader.warn_of_unknown(&place, "there is no such key, it is not used", || {
                elsewhere(key).unwrap_or_else(advice)
            });
        }
        self
    }

    /// Where a problem with a key that is absent is shown: at the section.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let offset = self.item(key).map_or(self.offset, |(offset, _)| offset);
        Place {
            key: format!("{}.{key}", self.label),
            offset,
        }
    }

    /// Whether the key is there, with whatever value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.item(key).is_some()
    }

    /// Every key with its value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'d str, &'d Item, Place)> + '_ {
        let entries = self.table.into_iter().flat_map(|table| table.iter());
        entries.map(|(key, item)| {
            (
                key,
                item,
                Place {
                    key: format!("{}.{}", self.label, shown(key)),
                    ..self.place_of(key)
                },
            )
        })
    }

    fn item(&self, key: &str) -> Option<(usize, &'d Item)> {
        debug_assert!(
            KEYS.iter()
                .any(|doc| doc.section == self.name && (doc.key == key || doc.key == "*")),
            "{}.{key} is missing in the reference",
            self.name
        );
        let item = self.table?.get(key)?;
        Some((item.span().map_or(self.offset, |span| span.start), item))
    }

    /// A value that `take` accepts; `kind` says in words what that is.
    fn value<T>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        kind: &str,
        take: impl FnOnce(&'d Item) -> Option<T>,
    ) -> Option<Found<T>> {
        let (_, item) = self.item(key)?;
        let place = self.place_of(key);
        let taken = take(item);
        if taken.is_none() {
            reader.refuse(
                &place,
                format!("this is {}", kind_of(item)),
                format!("give {kind}"),
            );
        }
        Some(Found {
            value: taken?,
            place,
        })
    }

    /// A text; `example` is shown when it is something else.
    pub(super) fn string(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        example: &str,
    ) -> Option<Found<&'d str>> {
        self.value(
            reader,
            key,
            &format!("a text in quotes, such as {key} = {example}"),
            Item::as_str,
        )
    }

    /// A whole number within a range.
    pub(super) fn integer(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<Found<i64>> {
        let kind = format!(
            "a whole number from {} to {}, without quotes",
            range.start(),
            range.end()
        );
        let found = self.value(reader, key, &kind, Item::as_integer)?;
        if !range.contains(&found.value) {
            reader.refuse(
                &found.place,
                format!("{} is out of range", found.value),
                format!("give {kind}"),
            );
            return None;
        }
        Some(found)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, reader: &mut Reader<'_>, key: &str) -> Option<Found<bool>> {
        self.value(reader, key, "true or false, without quotes", Item::as_bool)
    }

    /// A value of more than one kind.
    pub(super) fn any(&self, key: &str) -> Option<Found<&'d Item>> {
        self.item(key).map(|(_, item)| Found {
            value: item,
            place: self.place_of(key),
        })
    }
}

fn offset_of(key: Option<&Key>, item: &Item) -> usize {
    key.and_then(Key::span)
        .or_else(|| item.span())
        .map_or(0, |span| span.start)
}

/// What a value is, in words.
pub(super) fn kind_of(item: &Item) -> &'static str {
    match item {
        Item::None => "nothing",
        Item::Value(Value::String(_)) => "a text",
        Item::Value(Value::Integer(_)) => "a whole number",
        Item::Value(Value::Float(_)) => "a number with a fraction",
        Item::Value(Value::Boolean(_)) => "true or false",
        Item::Value(Value::Datetime(_)) => "a date or time",
        Item::Value(Value::Array(_)) => "a list",
        Item::Value(Value::InlineTable(_)) | Item::Table(_) => "a section",
        Item::ArrayOfTables(_) => "a list of sections",
    }
}

/// The section in which a key of this name does exist.
fn elsewhere(key: &str) -> Option<String> {
    let doc = KEYS.iter().find(|doc| doc.key == key)?;
    Some(format!("`{key}` belongs into [{}]", doc.section))
}

/// The name that was probably meant, else all there are.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>, all: &str) -> String {
    let known: Vec<&str> = known.collect();
    let close = |other: &&str| strsim::jaro_winkler(&name.to_lowercase(), other);
    // Nothing as long as a sentence is a misspelt key, and comparing it costs.
    let candidates = known.iter().copied().filter(|_| name.len() <= 32);
    let best = candidates
        .map(|other| (other, close(&other)))
        .max_by(|(_, a), (_, b)| a.total_cmp(b));
    match best {
        Some((other, likeness)) if likeness > 0.8 => format!("did you mean `{other}`?"),
        _ => format!("{all} {}", known.join(", ")),
    }
}
