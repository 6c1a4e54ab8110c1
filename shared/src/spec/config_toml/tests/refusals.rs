//! Each bad input, with its place and its remedy.

use super::*;
use std::time::Instant;

/// Each with the key it is about, and words of what is wrong and what would be right.
const BAD: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "Config.toml:1:1: config.lang: neither `lang` nor `dockerfile`",
            "dockerfile = \"Dockerfile\"",
        ],
    ),
    ("[config]\n", &["neither `lang` nor `dockerfile`"]),
    (
        "[config]\nlang = \"node\"\ndockerfile = \"Dockerfile\"",
        &["3:14: config.dockerfile: both", "keep one"],
    ),
    (
        "[config]\nlang = python3",
        &["Config.toml:2:", "this is not TOML", "quotes"],
    ),
    ("[config", &["Config.toml:1:", "not TOML"]),
    (
        "[config]\nlang = \"a\"\nlang = \"b\"",
        &["Config.toml:3:", "duplicate key"],
    ),
    (
        "[config]\nlang = \"rust\"",
        &[
            "2:8: config.lang: `rust`",
            "python, python3, node or static",
        ],
    ),
    (
        "[config]\nlang = 3",
        &["2:8: config.lang: this is a whole number", "text in quotes"],
    ),
    (
        "[config]\nlang = \"node\"\nport = 0",
        &["3:8: config.port: 0 is out of range", "1 to 65535"],
    ),
    (
        "[config]\nlang = \"node\"\nport = 70000",
        &["config.port: 70000 is out of range", "1 to 65535"],
    ),
    (
        "[config]\nlang = \"node\"\nport = \"8000\"",
        &["config.port: this is a text", "without quotes"],
    ),
    (
        "[config]\nlang = \"node\"\nport = 80.5",
        &["config.port: this is a number with a fraction"],
    ),
    (
        "[config]\nlang = \"node\"\nport = [80]",
        &["config.port: this is a list"],
    ),
    (
        "[config]\ndockerfile = \"/etc/passwd\"",
        &["config.dockerfile: `/etc/passwd`", "relative path"],
    ),
    (
        "[config]\ndockerfile = \"../Dockerfile\"",
        &["config.dockerfile", "relative path"],
    ),
    ("[config]\ndockerfile = \"-f\"", &["config.dockerfile"]),
    ("[config]\ndockerfile = \"\"", &["config.dockerfile"]),
    (
        "[config]\ndockerfile = \"a\\nb\"",
        &["config.dockerfile: `a\\nb`"],
    ),
    (
        "[config]\nlang = \"node\"\nrun = [\"node\"]",
        &["config.run: this is a list", "text in quotes"],
    ),
    (
        "[config]\nlang = \"node\"\nrun = \"node 'x\"",
        &["config.run: a quote is not closed"],
    ),
    (
        "[config]\nlang = \"node\"\nrun = \"\"",
        &["config.run: it names no program"],
    ),
    (
        "[config]\nlang = \"node\"\nrun = \"a\\nRUN b\"",
        &["config.run: it has line breaks"],
    ),
    (
        "[config]\nlang = \"static\"\nrun = \"x\"",
        &["config.run: static files", "remove"],
    ),
    (
        "[config]\nlang = \"node\"\ndomain = \"https://a.example\"",
        &["config.domain", "only the host name"],
    ),
    (
        "[config]\nlang = \"node\"\ndomain = \"10.0.0.1\"",
        &["config.domain", "IP address"],
    ),
    (
        "[config]\ndockerfile = \"D\"\ndomain = \"a.example\"",
        &["config.domain: a domain is given but no port"],
    ),
    (
        "[config]\nlang = \"node\"\n[env]\nA-B = \"x\"",
        &["4:7: env.A-B", "letters, digits and underscores"],
    ),
    (
        "[config]\nlang = \"node\"\n[env]\nLONGSHORE_TOKEN = \"x\"",
        &["env.LONGSHORE_TOKEN", "reserved"],
    ),
    (
        "[config]\nlang = \"node\"\n[env]\nA = 1.5",
        &["env.A: this is a number with a fraction", "quotes"],
    ),
    (
        "[config]\nlang = \"node\"\n[env]\nA = 2020-01-01",
        &["env.A: this is a date"],
    ),
    (
        "[config]\nlang = \"node\"\n[env]\nA = \"a\\u0000\"",
        &["env.A: the value has a NUL"],
    ),
    (
        "[config]\nlang = \"node\"\n[deploy]\nmethod = \"yolo\"",
        &["deploy.method: `yolo`", "rolling, blind, simple or canary"],
    ),
    (
        "[config]\nlang = \"node\"\n[deploy]\nmethod = \"rolling\"\nmethode = \"rolling\"",
        &["5:11: deploy.methode", "one of the two"],
    ),
    (
        "[config]\nlang = \"node\"\n[health]\npath = \"/\"\ntcp = true",
        &["health.tcp: both `path` and `tcp`"],
    ),
    (
        "[config]\nlang = \"node\"\n[health]\npath = \"healthz\"",
        &["health.path", "such as /healthz"],
    ),
    (
        "[config]\nlang = \"node\"\n[health]\npath = \"/a b\\r\\nX: y\"",
        &["health.path", "spaces"],
    ),
    (
        "[config]\nlang = \"node\"\n[health]\ncommand = \"curl x\"",
        &["health.command: this is a text, not a list", "[\"curl\""],
    ),
    (
        "[config]\nlang = \"node\"\n[health]\ncommand = []",
        &["health.command: it names no program"],
    ),
    (
        "[config]\nlang = \"node\"\n[health]\ncommand = [1]",
        &["health.command: not every entry"],
    ),
    (
        "[config]\nlang = \"node\"\n[health]\ntcp = false",
        &["health.tcp: this cannot be switched off"],
    ),
    (
        "[config]\nlang = \"node\"\n[health]\ninterval = \"5 parsecs\"",
        &["health.interval: `5 parsecs`", "\"5s\""],
    ),
    (
        "[config]\nlang = \"node\"\n[health]\ninterval = 0",
        &["health.interval: 0s is out of range", "100ms to 1h"],
    ),
    (
        "[config]\nlang = \"node\"\n[health]\ntimeout = -1",
        &["health.timeout: -1 is not a duration"],
    ),
    (
        "[config]\nlang = \"node\"\n[health]\nretries = 0",
        &["health.retries: 0 is out of range"],
    ),
    (
        "[config]\ndockerfile = \"D\"\n[health]\ntcp = true",
        &["health.tcp: there is no port", "config.port"],
    ),
    (
        "[config]\nlang = \"node\"\n[resources]\nmemory = \"lots\"",
        &["resources.memory: `lots`", "256M"],
    ),
    (
        "[config]\nlang = \"node\"\n[resources]\nmemory = 1024",
        &["resources.memory: 1K is less", "6M"],
    ),
    (
        "[config]\nlang = \"node\"\n[resources]\nmemory = -1",
        &["resources.memory: -1 is not a size"],
    ),
    (
        "[config]\nlang = \"node\"\n[resources]\nmemory = 9223372036854775807",
        &[
            "resources.memory: 9223372036854775807 is not a size",
            "256M",
        ],
    ),
    (
        "[config]\ndockerfile = \"D\"\ndomain = \"a.example\"\nprot = 8000",
        &[
            "config.domain: a domain is given but no port",
            "4:1: config.prot: there is no such key",
            "did you mean `port`?",
        ],
    ),
    (
        "[config]\ndockefile = \"D\"",
        &[
            "config.lang: neither `lang` nor `dockerfile` is given",
            "did you mean `dockerfile`?",
        ],
    ),
    (
        "[confg]\nlang = \"node\"",
        &["config.lang: neither", "did you mean `config`?"],
    ),
    (
        "[config]\nlang = \"node\"\n[[volumes]]\nnmae = \"x\"\npath = \"/x\"",
        &["volumes[1].name: this is missing", "did you mean `name`?"],
    ),
    (
        "[config]\nlang = \"node\"\n[resources]\ncpus = \"1\"",
        &["resources.cpus: this is a text", "without quotes"],
    ),
    (
        "[config]\nlang = \"node\"\n[resources]\ncpus = nan",
        &["resources.cpus"],
    ),
    (
        "[config]\nlang = \"node\"\n[resources]\npids = 0",
        &["resources.pids: 0 is out of range"],
    ),
    (
        "[config]\nlang = \"node\"\n[volumes]\nname = \"x\"",
        &["volumes: this is a section", "[[volumes]]"],
    ),
    (
        "[config]\nlang = \"node\"\n[[volumes]]\nname = \"x\"",
        &["volumes[1].path: this is missing"],
    ),
    (
        "[config]\nlang = \"node\"\n[[volumes]]\nname = \"X Y\"\npath = \"/x\"",
        &["volumes[1].name: `X Y`"],
    ),
    (
        "[config]\nlang = \"node\"\n[[volumes]]\nname = \"x\"\npath = \"x\"",
        &["volumes[1].path", "absolute path"],
    ),
    (
        "[config]\nlang = \"node\"\n[[volumes]]\nname = \"x\"\npath = \"/x\"\n[[volumes]]\nname = \"x\"\npath = \"/x\"",
        &[
            "7:8: volumes[2].name: another volume is called `x`",
            "8:8: volumes[2].path: another volume is at `/x`",
        ],
    ),
    (
        "config = \"node\"",
        &["config: this is a text, not a section", "[config]"],
    ),
    (
        "[[config]]\nlang = \"node\"",
        &["config: this is a list of sections"],
    ),
    (
        "[app]\nversion = 1.0\n[config]\nlang = \"node\"",
        &["2:11: app.version: this is a number", "\"1.0.0\""],
    ),
];

#[test]
fn bad_input_is_refused_with_a_place_and_a_remedy() {
    for (text, words) in BAD {
        let error = wrong(text);
        for word in *words {
            assert!(
                error.contains(word),
                "{text}\ngives: {error}\nwithout: {word}"
            );
        }
    }
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let error = parse(
        "Shipwreck.toml",
        b"[config]\nlang = \"rust\"\nport = 0\n[health]\nretries = 1.5\n",
    )
    .unwrap_err();
    let keys: Vec<&str> = error
        .problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    assert_eq!(keys, ["config.lang", "config.port", "health.retries"]);
    assert!(
        error
            .to_string()
            .lines()
            .all(|line| line.starts_with("Shipwreck.toml:"))
    );
}

#[test]
fn a_hostile_number_of_problems_is_counted_not_listed() {
    let keys: String = (0..5000)
        .map(|index| format!("LONGSHORE_{index} = 1\n"))
        .collect();
    let error = parse(
        "Config.toml",
        format!("[config]\nlang = \"node\"\n[env]\n{keys}").as_bytes(),
    )
    .unwrap_err();
    assert_eq!((error.problems.len(), error.omitted), (40, 4960));
}

#[test]
fn warnings_do_not_refuse() {
    let check = |text: &str, words: &[&str]| {
        let warnings = read(&format!("{text}\n")).warnings;
        let all: String = warnings
            .iter()
            .map(|warning| format!("{warning}\n"))
            .collect();
        for word in words {
            assert!(all.contains(word), "{text}\ngives: {all}\nwithout: {word}");
        }
        assert_eq!(warnings.is_empty(), words.is_empty(), "{all}");
    };
    check(
        "[config]\nlang = \"node\"\nprot = 80",
        &[
            "Config.toml:3:1: config.prot: there is no such key",
            "did you mean `port`?",
        ],
    );
    check(
        "[config]\nlang = \"node\"\nmemory = \"1G\"",
        &["config.memory", "`memory` belongs into [resources]"],
    );
    check(
        "[conf]\nx = 1\n[config]\nlang = \"node\"",
        &[
            "1:2: conf: there is no such section",
            "did you mean `config`?",
        ],
    );
    check(
        "port = 80\n[config]\nlang = \"node\"",
        &["port: this key stands outside any section", "[config]"],
    );
    check(
        "[config]\nlang = \"node\"\nzzz = 1",
        &["the keys of [config] are lang, dockerfile"],
    );
    check(
        "[config]\nlang = \"node\"\n[deploy]\nmethod = \"canary\"",
        &["deploy.method: `canary` is not available"],
    );
    check(
        "[config]\nlang = \"node\"\nrun = \"npm ci && npm start\"",
        &["config.run: no shell runs this: `&&`"],
    );
    check(
        "[config]\nlang = \"node\"\n[[volumes]]\nname = \"a\"\npath = \"/a\"\nmode = 1",
        &["volumes[1].mode"],
    );
    check(
        "[app]\ntest = \"x\"\nendpoint = 1\n[config]\nlang = \"node\"\ntest = true\nendpoint = \"x\"",
        &[],
    );
}

#[test]
fn a_file_that_is_no_text_or_too_large_is_refused_unread() {
    let error = parse("Config.toml", b"[config]\nlang = \"\xff\"").unwrap_err();
    assert!(error.to_string().contains("not UTF-8"), "{error}");
    let error = parse("Config.toml", &vec![b'#'; SIZE_LIMIT + 1]).unwrap_err();
    assert!(error.to_string().contains("262145 bytes"), "{error}");
    assert!(
        parse(
            "Config.toml",
            b"\xef\xbb\xbf[config]\r\nlang = \"node\"\r\n"
        )
        .is_ok(),
        "a mark of UTF-8 and CRLF are fine"
    );
}

#[test]
fn lines_that_are_not_toml_are_never_quoted() {
    for text in [
        "root:x:0:0:hunter2:/root:/bin/sh",
        "-----BEGIN hunter2 KEY-----",
        "[config]\nhunter2",
        "a = hunter2 x",
        "hunter2 = \"\\q\"",
    ] {
        assert!(!wrong(text).contains("hunter2"), "{}", wrong(text));
    }
}

#[test]
fn what_is_hard_to_parse_is_still_quick() {
    let fill = |part: &str| part.repeat(SIZE_LIMIT / part.len());
    let numbered = |make: fn(usize) -> String| (0..6000).map(make).collect::<String>();
    let texts = [
        fill("["),
        format!("a = {}", fill("[")),
        format!("a = {}", fill("{a=")),
        format!("a{} = 1", fill(".a").get(..SIZE_LIMIT - 8).unwrap()),
        numbered(|index| format!("[[volumes]]\nname=\"v{index}\"\npath=\"/v{index}\"\n")),
        numbered(|index| format!("[a{index}.b.c]\nd = 1\n")),
        numbered(|index| format!("k{index} = {{ a.b.c = 1 }}\n")),
        format!("[config]\n{}", numbered(|index| format!("k{index} = 1\n"))),
        format!(
            "[config]\n{} = 1",
            fill("k").get(..SIZE_LIMIT - 16).unwrap()
        ),
        fill("\n"),
        format!("a = \"{}\"", fill("\\n").get(..SIZE_LIMIT - 8).unwrap()),
        format!("a = {}", fill("9").get(..SIZE_LIMIT - 8).unwrap()),
    ];
    for text in texts {
        let begin = Instant::now();
        let _ = parse("Config.toml", text.as_bytes());
        // Generous for an unoptimised build on a busy machine: this is about blow-ups, not speed.
        assert!(
            begin.elapsed() < Duration::from_secs(3),
            "{:?} for {}…",
            begin.elapsed(),
            &text[..20]
        );
    }
}
