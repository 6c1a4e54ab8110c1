//! Small applications, as the files of a repository. All are built from `busybox`, which is on
//! every machine that runs these tests.

/// Serves one page on a port that Config.toml names.
pub const CONFIG: &str =
    "[app]\nname = \"hello\"\n\n[config]\ndockerfile = \"Dockerfile\"\nport = 8000\n";

/// A web server that obeys SIGTERM.
pub const DOCKERFILE: &str = "FROM busybox\nCOPY index.html /www/index.html\nEXPOSE 8000\n\
    CMD [\"sh\", \"-c\", \"trap 'exit 0' TERM; httpd -f -p 8000 -h /www & wait\"]\n";

/// A repository's files: a web server that answers `page`.
pub fn hello(page: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("Config.toml", CONFIG),
        ("Dockerfile", DOCKERFILE),
        ("index.html", page),
    ]
}

/// As [`hello`], with another Dockerfile.
pub fn with_dockerfile(dockerfile: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("Config.toml", CONFIG),
        ("Dockerfile", dockerfile),
        ("index.html", "x"),
    ]
}
