//! Reading values: from the words of a line or a CONFIG SET to the one form
//! in which a value is kept and shown.
//!
//! Error texts are those of Redis 7.0, byte for byte.

use cairn_protocol::resp::number::{parse_f64, parse_i64};

use super::parameters::{Kind, LOG_LEVELS, Parameter, Special};

type Read = Result<Vec<u8>, String>;

/// Reads the value of `parameter` from its arguments. `old` is the value
/// before, which some parameters change only in part.
///
/// # Errors
/// The text with which Redis refuses such a value.
pub fn read(parameter: &Parameter, args: &[&[u8]], old: &[u8]) -> Read {
    if let Kind::Special(special) = parameter.kind {
        return read_special(special, args, old);
    }
    if let Kind::FlagSet(words) = parameter.kind {
        return flag_set(words, args);
    }
    let [arg] = args else {
        return Err("wrong number of arguments".into());
    };
    match parameter.kind {
        Kind::Bool => {
            word_of(&["yes", "no"], arg).ok_or_else(|| "argument must be 'yes' or 'no'".to_owned())
        }
        Kind::Text => Ok(arg.to_vec()),
        Kind::FileName => file_name(parameter.name, arg),
        Kind::HostName => host_name(arg),
        Kind::ProcTitle => proc_title(arg),
        Kind::Integer(least, most) => integer(arg, least, most),
        Kind::Memory(least, most) => memory_within(arg, least, most),
        Kind::MemoryOrPercent(least, most) => memory_or_percent(arg, least, most),
        Kind::Octal(least, most) => octal(arg, least, most),
        Kind::Enum(words) => word_of(words, arg).ok_or_else(|| one_of(words)),
        Kind::LogLevel => log_level(arg),
        Kind::Millis => millis(arg),
        Kind::FlagSet(_) | Kind::Special(_) => unreachable!("answered above"),
    }
}

fn word_of(words: &[&str], arg: &[u8]) -> Option<Vec<u8>> {
    let word = words
        .iter()
        .find(|w| arg.eq_ignore_ascii_case(w.as_bytes()))?;
    Some(word.as_bytes().to_vec())
}

fn one_of(words: &[&str]) -> String {
    format!(
        "argument(s) must be one of the following: {}",
        words.join(", ")
    )
}

fn flag_set(words: &[&str], args: &[&[u8]]) -> Read {
    if args.is_empty() {
        return Err(one_of(words));
    }
    let mut kept: Vec<&str> = Vec::new();
    for arg in args {
        let word = words
            .iter()
            .find(|w| arg.eq_ignore_ascii_case(w.as_bytes()));
        let word = word.ok_or_else(|| one_of(words))?;
        if !kept.contains(word) && *word != "default" {
            kept.push(word);
        }
    }
    if kept.contains(&"save") && kept.contains(&"nosave") {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
    }
    // In the order of the table, as Redis shows them.
    let shown: Vec<&str> = words.iter().copied().filter(|w| kept.contains(w)).collect();
    Ok(if shown.is_empty() {
        b"default".to_vec()
    } else {
        shown.join(" ").into_bytes()
    })
}

/// The words of other programs mean the level that is nearest.
fn log_level(arg: &[u8]) -> Read {
    let synonyms = [
        ("info", "verbose"),
        ("warn", "warning"),
        ("error", "warning"),
    ];
    let known = synonyms
        .iter()
        .find(|(word, _)| arg.eq_ignore_ascii_case(word.as_bytes()));
    match known {
        Some((_, level)) => Ok(level.as_bytes().to_vec()),
        None => word_of(LOG_LEVELS, arg).ok_or_else(|| one_of(LOG_LEVELS)),
    }
}

fn within(value: i128, least: i128, most: i128) -> Result<i128, String> {
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(format!(
            "argument must be between {least} and {most} inclusive"
        )),
    }
}

fn digits(value: i128) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn integer(arg: &[u8], least: i128, most: i128) -> Read {
    let value = parse_i64(arg).ok_or("argument couldn't be parsed into an integer")?;
    within(value.into(), least, most).map(digits)
}

/// Redis takes any number for a hint, and keeps it within bounds.
fn hz(arg: &[u8]) -> Read {
    let hint = parse_i64(arg).ok_or("argument couldn't be parsed into an integer")?;
    within(hint.into(), 0, i32::MAX.into()).map(|hint| digits(hint.clamp(1, 500)))
}

fn memory_within(arg: &[u8], least: i128, most: i128) -> Read {
    let value = memory(arg).ok_or("argument must be a memory value")?;
    within(value.into(), least, most).map(digits)
}

fn memory_or_percent(arg: &[u8], least: i128, most: i128) -> Read {
    if let Some(value) = memory(arg) {
        // Redis compares with the signed least value; bytes are never below it.
        return within(value.into(), least, most).map(digits);
    }
    let percent = arg
        .strip_suffix(b"%")
        .and_then(parse_i64)
        .filter(|p| *p >= 0);
    let percent = percent.ok_or("argument must be a memory or percent value")?;
    if i128::from(percent) > -least {
        return Err(format!(
            "percentage argument must be less or equal to {}",
            -least
        ));
    }
    Ok(format!("{percent}%").into_bytes())
}

fn octal(arg: &[u8], least: i128, most: i128) -> Read {
    let text = std::str::from_utf8(arg).unwrap_or("");
    let value = i64::from_str_radix(text, 8);
    let value = value.map_err(|_| "argument couldn't be parsed as an octal number")?;
    match (least..=most).contains(&value.into()) {
        true => Ok(format!("{value:o}").into_bytes()),
        false => Err(format!(
            "argument must be between {least:o} and {most:o} inclusive"
        )),
    }
}

/// Bytes with an optional unit: `k` is 1000, `kb` 1024, and so on.
pub fn memory(arg: &[u8]) -> Option<u64> {
    let end = arg
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(arg.len());
    let (number, unit) = arg.split_at(end);
    let scale: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    number.checked_mul(scale)
}

/// The shortest exact form of a number of bytes, for a file: `512mb`.
pub fn memory_text(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")] {
        if bytes != 0 && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

fn millis(arg: &[u8]) -> Read {
    let end = arg
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(arg.len());
    let (number, unit) = arg.split_at(end);
    let scale = match unit {
        b"" | b"ms" => 1,
        b"s" => 1000,
        _ => 0,
    };
    let number: Option<u64> = std::str::from_utf8(number)
        .ok()
        .and_then(|n| n.parse().ok());
    match number.and_then(|n| n.checked_mul(scale)) {
        Some(ms) if scale > 0 && ms <= 3_600_000 => Ok(format!("{ms}ms").into_bytes()),
        _ => Err("argument must be a time such as 200ms or 2s, at most an hour".into()),
    }
}

fn file_name(name: &str, arg: &[u8]) -> Read {
    let (may_be_empty, what) = match name {
        "dbfilename" => (true, "filename"),
        "appenddirname" => (false, "dirname"),
        _ => (false, "filename"),
    };
    if arg.is_empty() && !may_be_empty {
        return Err(format!("{name} can't be empty"));
    }
    if arg.contains(&b'/') || arg.contains(&b'\\') {
        return Err(format!("{name} can't be a path, just a {what}"));
    }
    Ok(arg.to_vec())
}

fn host_name(arg: &[u8]) -> Read {
    if arg.len() >= 256 {
        return Err("Hostnames must be less than 256 characters".into());
    }
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    match arg.iter().all(allowed) {
        true => Ok(arg.to_vec()),
        false => Err("Hostnames may only contain alphanumeric characters, hyphens or dots".into()),
    }
}

fn proc_title(arg: &[u8]) -> Read {
    let known = [
        "title",
        "listen-addr",
        "server-mode",
        "port",
        "tls-port",
        "unixsocket",
        "config-file",
    ];
    let text = std::str::from_utf8(arg).unwrap_or("{");
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let Some(close) = rest[open..].find('}') else {
            return Err(BAD_TITLE.into());
        };
        if !known.contains(&&rest[open + 1..open + close]) {
            return Err(BAD_TITLE.into());
        }
        rest = &rest[open + close + 1..];
    }
    Ok(arg.to_vec())
}

const BAD_TITLE: &str = "template format is invalid or contains unknown variables";

fn read_special(special: Special, args: &[&[u8]], old: &[u8]) -> Read {
    match special {
        Special::Dir => match args {
            [dir] => Ok(dir.to_vec()),
            _ => Err("wrong number of arguments".into()),
        },
        Special::Save => save(args),
        Special::OutputBufferLimit => output_buffer_limit(args, old),
        Special::OomScoreAdj => oom_score_adj(args),
        Special::KeyspaceEvents => match args {
            [classes] => keyspace_events(classes),
            _ => Err("wrong number of arguments".into()),
        },
        Special::Bind => bind(args),
        Special::ReplicaOf => replica_of(args),
        Special::Percentiles => percentiles(args),
        Special::Hz => match args {
            [hint] => hz(hint),
            _ => Err("wrong number of arguments".into()),
        },
    }
}

fn joined(words: &[&[u8]]) -> Vec<u8> {
    words.join(&b' ')
}

fn save(args: &[&[u8]]) -> Read {
    if matches!(args, [only] if only.is_empty()) {
        return Ok(Vec::new());
    }
    let points: Option<Vec<i64>> = args.iter().map(|a| parse_i64(a)).collect();
    let valid = |p: &[i64]| p.len() == 2 && p[0] >= 1 && p[1] >= 0;
    match points {
        Some(points) if points.chunks(2).all(valid) => {
            let words: Vec<String> = points.iter().map(i64::to_string).collect();
            Ok(words.join(" ").into_bytes())
        }
        _ => Err("Invalid save parameters".into()),
    }
}

/// Classes that are not named keep what they had.
fn output_buffer_limit(args: &[&[u8]], old: &[u8]) -> Read {
    if !args.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let mut classes = split_words(old);
    for limit in args.chunks(4) {
        let at = match limit[0].to_ascii_lowercase().as_slice() {
            b"normal" => 0,
            b"slave" | b"replica" => 4,
            b"pubsub" => 8,
            _ => {
                return Err("Invalid client class specified in buffer limit configuration.".into());
            }
        };
        let seconds = parse_i64(limit[3]).filter(|s| (0..=i64::from(i32::MAX)).contains(s));
        let (Some(hard), Some(soft), Some(seconds)) = (memory(limit[1]), memory(limit[2]), seconds)
        else {
            return Err(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.".into(),
            );
        };
        classes[at + 1] = hard.to_string().into_bytes();
        classes[at + 2] = soft.to_string().into_bytes();
        classes[at + 3] = seconds.to_string().into_bytes();
    }
    Ok(classes.join(&b' '))
}

fn oom_score_adj(args: &[&[u8]]) -> Read {
    if args.len() != 3 {
        return Err("wrong number of arguments".into());
    }
    let in_range = |arg: &&[u8]| parse_i64(arg).is_some_and(|v| (-2000..=2000).contains(&v));
    match args.iter().all(in_range) {
        true => Ok(joined(args)),
        false => {
            Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000.".into())
        }
    }
}

fn keyspace_events(classes: &[u8]) -> Read {
    const ALL: &[u8] = b"g$lshzxetd";
    let mut chosen: Vec<u8> = Vec::new();
    for class in classes {
        match class {
            b'A' => chosen.extend(ALL),
            b'K' | b'E' | b'm' | b'n' => chosen.push(*class),
            class if ALL.contains(class) => chosen.push(*class),
            _ => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
        }
    }
    let has = |class: u8| chosen.contains(&class);
    let mut shown = Vec::new();
    match ALL.iter().all(|c| has(*c)) {
        true => shown.push(b'A'),
        false => shown.extend(b"g$lshzxetd".iter().filter(|c| has(**c))),
    }
    // Redis shows no `n` behind `A`, and forgets it in CONFIG REWRITE.
    shown.extend(b"nKEm".iter().filter(|c| has(**c)));
    Ok(shown)
}

fn bind(args: &[&[u8]]) -> Read {
    if args.len() > 16 {
        return Err("Too many bind addresses specified.".into());
    }
    for arg in args.iter().filter(|a| !a.is_empty()) {
        let text = std::str::from_utf8(arg).unwrap_or("");
        let text = text.strip_prefix('-').unwrap_or(text);
        if !matches!(text, "*" | "::*") && text.parse::<std::net::IpAddr>().is_err() {
            return Err(format!(
                "Failed to bind to specified addresses. '{}' is not an IP address",
                String::from_utf8_lossy(arg)
            ));
        }
    }
    Ok(joined(args))
}

fn replica_of(args: &[&[u8]]) -> Read {
    let [host, port] = args else {
        return match args {
            [[]] => Ok(Vec::new()),
            _ => Err("wrong number of arguments".into()),
        };
    };
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        return Ok(Vec::new());
    }
    match parse_i64(port) {
        Some(0..=65535) => Ok(joined(args)),
        _ => Err("Invalid master port".into()),
    }
}

fn percentiles(args: &[&[u8]]) -> Read {
    if matches!(args, [only] if only.is_empty()) {
        return Ok(Vec::new());
    }
    let mut shown: Vec<Vec<u8>> = Vec::new();
    for arg in args {
        let p = parse_f64(arg).ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        if !(0.0..=100.0).contains(&p) {
            return Err(
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
                    .into(),
            );
        }
        // Six digits after the point are kept.
        let text = format!("{p:.6}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        shown.push(text.into());
    }
    Ok(shown.join(&b' '))
}

/// The words of a canonical value.
pub fn split_words(value: &[u8]) -> Vec<Vec<u8>> {
    value
        .split(|b| *b == b' ')
        .filter(|w| !w.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::parameters::{PARAMETERS, find};
    use super::*;

    fn value(name: &str, args: &[&str]) -> Result<String, String> {
        let parameter = &PARAMETERS[find(name.as_bytes()).unwrap()];
        let args: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
        let old = parameter.default.as_bytes();
        read(parameter, &args, old).map(|v| String::from_utf8(v).unwrap())
    }

    #[test]
    fn hz_is_a_hint() {
        assert_eq!(value("hz", &["0"]).unwrap(), "1");
        assert_eq!(value("hz", &["100"]).unwrap(), "100");
        assert_eq!(value("hz", &["100000"]).unwrap(), "500");
        assert!(value("hz", &["-1"]).unwrap_err().contains("between 0 and"));
    }

    #[test]
    fn memory_units_are_redis_s() {
        let cases = [
            ("1b", 1),
            ("1k", 1000),
            ("1Kb", 1024),
            ("2mb", 2 << 20),
            ("1g", 1_000_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(memory(text.as_bytes()), Some(bytes), "{text}");
        }
        for wrong in ["", "kb", "-1", "1tb", "99999999999gb"] {
            assert_eq!(memory(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(memory_text(3 << 30), "3gb");
        assert_eq!(memory_text(1500), "1500");
    }

    #[test]
    fn wrong_values_get_redis_s_texts() {
        let cases = [
            (
                "appendfsync",
                "often",
                "argument(s) must be one of the following: everysec, always, no",
            ),
            ("protected-mode", "1", "argument must be 'yes' or 'no'"),
            (
                "maxclients",
                "x",
                "argument couldn't be parsed into an integer",
            ),
            (
                "maxclients",
                "0",
                "argument must be between 1 and 4294967295 inclusive",
            ),
            ("maxmemory", "x", "argument must be a memory value"),
            (
                "maxmemory-clients",
                "101%",
                "percentage argument must be less or equal to 100",
            ),
            (
                "maxmemory-clients",
                "x",
                "argument must be a memory or percent value",
            ),
            (
                "unixsocketperm",
                "9",
                "argument couldn't be parsed as an octal number",
            ),
            (
                "notify-keyspace-events",
                "q",
                "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
            ),
            (
                "dbfilename",
                "a/b",
                "dbfilename can't be a path, just a filename",
            ),
        ];
        for (name, arg, error) in cases {
            assert_eq!(value(name, &[arg]), Err(error.to_owned()), "{name}");
        }
    }

    #[test]
    fn values_take_their_canonical_form() {
        assert_eq!(value("maxmemory", &["1gb"]), Ok("1073741824".into()));
        assert_eq!(value("notify-keyspace-events", &["KEA"]), Ok("AKE".into()));
        assert_eq!(
            value("notify-keyspace-events", &["mKng"]),
            Ok("gnKm".into())
        );
        assert_eq!(value("save", &["100", "1"]), Ok("100 1".into()));
        assert_eq!(value("save", &[""]), Ok("".into()));
        assert_eq!(value("loglevel", &["INFO"]), Ok("verbose".into()));
        assert_eq!(value("max-pause", &["2s"]), Ok("2000ms".into()));
        assert_eq!(
            value("shutdown-on-sigint", &["now", "nosave"]),
            Ok("nosave now".into())
        );
        assert_eq!(value("memory-limit", &["30%"]), Ok("30%".into()));
    }

    #[test]
    fn output_buffer_limits_change_only_the_classes_named() {
        let got = value("client-output-buffer-limit", &["replica", "1mb", "0", "5"]);
        assert_eq!(
            got,
            Ok("normal 0 0 0 slave 1048576 0 5 pubsub 33554432 8388608 60".into())
        );
        assert!(value("client-output-buffer-limit", &["normal", "1"]).is_err());
    }
}
