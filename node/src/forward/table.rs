//! The routes on disk: written whole, atomically, before they are in force.

use super::protocol::Route;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

const VERSION: u16 = 1;

#[derive(Serialize, Deserialize)]
struct Table {
    v: u16,
    routes: Vec<Route>,
}

/// The routes of the last [`save`]; none when there was none.
pub(super) fn load(path: &Path) -> io::Result<Vec<Route>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let table: Table = serde_json::from_slice(&bytes)?;
    if table.v != VERSION {
        return Err(io::Error::other(format!(
            "the table has version {}, not {VERSION}",
            table.v
        )));
    }
    Ok(table.routes)
}

/// Writes the routes, so that a power cut leaves either the old ones or these.
pub(super) fn save(path: &Path, routes: Vec<Route>) -> io::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut file, &Table { v: VERSION, routes })?;
    file.flush()?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_read_back_and_damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("forward.json");
        assert_eq!(load(&path).unwrap(), []);
        let routes = vec![Route {
            port: 3000,
            target: "10.201.0.2:80".parse().unwrap(),
        }];
        save(&path, routes.clone()).unwrap();
        assert_eq!(load(&path).unwrap(), routes);
        std::fs::write(&path, b"{\"v\":1,\"rou").unwrap();
        assert!(load(&path).is_err());
        std::fs::write(&path, b"{\"v\":9,\"routes\":[]}").unwrap();
        assert!(load(&path).is_err());
    }
}
