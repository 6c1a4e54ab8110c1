//! Texts nobody foresaw.

use super::*;
use proptest::prelude::*;
use std::time::Instant;

fn near_toml() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        prop::sample::select(vec![
            "[config]\n",
            "[env]\n",
            "[health]\n",
            "[[volumes]]\n",
            "[resources]\n",
            "[deploy]\n",
            "lang",
            "run",
            "port",
            "path",
            "name",
            "command",
            "interval",
            "cpus",
            "memory",
            "tcp",
            " = ",
            "\"node\"",
            "\"static\"",
            "8000",
            "-1",
            "1.5",
            "true",
            "[\"a\"]",
            "{a=1}",
            "\"5s\"",
            "1979-05-27",
            "\n",
            ".",
            "inf",
            "'''",
            "\\",
            "é",
            "\u{0}",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_bytes_end_in_a_spec_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = parse("Config.toml", &bytes);
    }

    #[test]
    fn anything_like_toml_ends_in_a_spec_or_an_error_soon(text in near_toml()) {
        let begin = Instant::now();
        if let Err(error) = parse("Config.toml", text.as_bytes()) {
            prop_assert!(!error.problems.is_empty());
            let shown = error.to_string();
            prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        }
        prop_assert!(begin.elapsed() < Duration::from_millis(100));
    }

    #[test]
    fn what_the_tables_say_is_what_is_read(port in 1u16.., retries in 1u32..=100, seconds in 1u64..=3600, mib in 6u64..100_000) {
        let text = format!(
            "[config]\nlang = \"node\"\nport = {port}\n[health]\nretries = {retries}\ninterval = \"{seconds}s\"\n[resources]\nmemory = \"{mib}M\""
        );
        let service = service(&text);
        prop_assert_eq!(service.ports, vec![port]);
        prop_assert_eq!(service.health.retries, retries);
        prop_assert_eq!(service.health.interval, Duration::from_secs(seconds));
        prop_assert_eq!(service.resources.memory, Some(ByteSize(mib << 20)));
    }
}
