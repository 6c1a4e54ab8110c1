//! Where things are when nobody says otherwise.

use std::ffi::OsString;
use std::path::PathBuf;

/// The data directory of `standalone`, and where a client on the same machine looks for its token.
pub(crate) fn default_data_dir() -> PathBuf {
    data_dir_of(std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME"))
}

fn data_dir_of(xdg_data_home: Option<OsString>, home: Option<OsString>) -> PathBuf {
    let absolute =
        |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    match (absolute(xdg_data_home), absolute(home)) {
        (Some(data), _) => data.join("longshore"),
        (None, Some(home)) => home.join(".local/share/longshore"),
        // A service without a home directory.
        (None, None) => PathBuf::from("/var/lib/longshore"),
    }
}

/// The admin token's file in a data directory.
pub(crate) const TOKEN_FILE: &str = "admin-token";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory_follows_the_home() {
        let check = |xdg: Option<&str>, home: Option<&str>, expected: &str| {
            assert_eq!(
                data_dir_of(xdg.map(OsString::from), home.map(OsString::from)),
                PathBuf::from(expected)
            );
        };
        check(None, Some("/home/a"), "/home/a/.local/share/longshore");
        check(Some("/data"), Some("/home/a"), "/data/longshore");
        check(
            Some("relative"),
            Some("/home/a"),
            "/home/a/.local/share/longshore",
        );
        check(None, None, "/var/lib/longshore");
        check(None, Some(""), "/var/lib/longshore");
    }
}
