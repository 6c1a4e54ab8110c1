//! What a repository without a configuration has that could be meant.

use super::Trouble;
use super::depot::Depot;
use super::tree::{self, Entry, Kind};
use git2::Odb;
use shared::spec::config_toml::FILE_NAMES;

/// How many folders are looked into for what could be meant.
const FOLDERS_LOOKED_INTO: usize = 100;

/// The file in other letters, or folders that have one, in words.
pub(super) fn look(
    depot: &Depot,
    odb: &Odb<'_>,
    entries: &[Entry],
) -> Result<Option<String>, Trouble> {
    let is_file = |entry: &&Entry| matches!(entry.kind, Kind::File { .. });
    let shown = |entry: &Entry| shared::name::shown(&String::from_utf8_lossy(&entry.name));
    let is_alike = |entry: &&Entry| {
        let alike = |name: &&str| entry.name.eq_ignore_ascii_case(name.as_bytes());
        FILE_NAMES.iter().any(alike)
    };
    if let Some(alike) = entries.iter().filter(is_file).find(is_alike) {
        let name = shown(alike);
        return Ok(Some(format!("; it has `{name}`: call that Config.toml")));
    }
    let mut found = Vec::new();
    let is_folder = |entry: &&Entry| entry.kind == Kind::Folder;
    for folder in entries.iter().filter(is_folder).take(FOLDERS_LOOKED_INTO) {
        let inside = tree::read(&depot.repo, odb, folder.id)?;
        let is_configuration = |entry: &Entry| {
            let is = |name: &&str| entry.name == name.as_bytes();
            FILE_NAMES.iter().any(is)
        };
        if inside.iter().any(is_configuration) {
            found.push(format!("`{}`", shown(folder)));
        }
    }
    found.truncate(5);
    let folders = found.join(", ");
    let hint = || format!("; there is one in {folders}: name that folder as the subdir");
    Ok((!folders.is_empty()).then(hint))
}
