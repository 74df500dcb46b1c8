//! Reading configurations: files in the form of redis.conf, then flags.
//!
//! Every problem is found, not only the first, and names where it is.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use cairn_protocol::command::glob_match;
use cairn_protocol::resp::{Limits, RequestParser, Requests};

use super::parameters::{DROPPED, PARAMETERS, REFUSED, find, suggestion};
use super::settings::Settings;

/// Files that include each other may be nested so deep.
const MAX_DEPTH: usize = 16;
/// A line of a configuration is at most so long, bytes.
const MAX_LINE: usize = 1 << 20;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// File and line, from 1 on.
    File(PathBuf, usize),
    CommandLine,
    /// The configuration as a whole.
    Whole,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::CommandLine => f.write_str("command line"),
            Origin::Whole => f.write_str("configuration"),
        }
    }
}

/// Something that keeps the server from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

/// Collects settings and problems.
#[derive(Default)]
pub struct Loader {
    pub settings: Settings,
    pub problems: Vec<Problem>,
    /// `save` lines add up; the first one replaces the default.
    save_seen: bool,
}

impl Loader {
    fn problem(&mut self, origin: &Origin, message: impl Into<String>) {
        self.problems.push(Problem {
            origin: origin.clone(),
            message: message.into(),
        });
    }

    /// Reads a file and those that it includes. `-` is the standard input.
    pub fn read_file(&mut self, path: &Path) {
        self.read_nested(path, &Origin::Whole, 0);
    }

    fn read_nested(&mut self, path: &Path, from: &Origin, depth: usize) {
        if depth > MAX_DEPTH {
            return self.problem(from, "files include each other without end");
        }
        let bytes = match path == Path::new("-") {
            true => {
                use std::io::Read;
                let mut bytes = Vec::new();
                std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
            }
            false => std::fs::read(path),
        };
        match bytes {
            Ok(bytes) => self.read_lines(&bytes, path, depth),
            Err(error) => self.problem(from, format!("cannot read {}: {error}", path.display())),
        }
    }

    fn read_lines(&mut self, bytes: &[u8], path: &Path, depth: usize) {
        for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let origin = Origin::File(path.to_path_buf(), index + 1);
            let Some(words) = split_line(line) else {
                self.problem(&origin, "unbalanced quotes");
                continue;
            };
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            match words.split_first() {
                Some((name, [file])) if name.eq_ignore_ascii_case(b"include") => {
                    self.include(file, &origin, depth);
                }
                Some((name, args)) => self.directive(name, args, &origin),
                None => {}
            }
        }
    }

    /// As in Redis, a pattern may match no file at all; a plain name may not.
    fn include(&mut self, name: &[u8], origin: &Origin, depth: usize) {
        let path = PathBuf::from(String::from_utf8_lossy(name).into_owned());
        let pattern = path.file_name().map(|n| n.to_string_lossy().into_owned());
        let pattern = pattern.filter(|p| p.contains(['*', '?', '[']));
        let Some(pattern) = pattern else {
            return self.read_nested(&path, origin, depth + 1);
        };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let entries = std::fs::read_dir(folder.unwrap_or(Path::new(".")));
        let mut files: Vec<PathBuf> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| {
                glob_match(
                    pattern.as_bytes(),
                    e.file_name().to_string_lossy().as_bytes(),
                    false,
                )
            })
            .map(|e| e.path())
            .collect();
        files.sort();
        for file in files {
            self.read_nested(&file, origin, depth + 1);
        }
    }

    /// One line or flag: a name and its arguments.
    pub fn directive(&mut self, name: &[u8], args: &[&[u8]], origin: &Origin) {
        let shown = String::from_utf8_lossy(name).to_ascii_lowercase();
        let Some(at) = find(name) else {
            if !DROPPED.contains(&shown.as_str()) {
                self.problem(origin, unknown(&shown));
            }
            return;
        };
        let parameter = &PARAMETERS[at];
        let words;
        let mut args = args.to_vec();
        if parameter.is_multi() && args.len() == 1 && !args[0].is_empty() {
            // `"a b c"` means the same as `a b c`.
            let Some(split) = split_line(args[0]) else {
                return self.problem(origin, format!("{shown}: unbalanced quotes"));
            };
            words = split;
            args = words.iter().map(Vec::as_slice).collect();
        }
        let before = self.settings.value(at).to_vec();
        if let Err(message) = self.settings.set(at, &args) {
            return self.problem(origin, format!("{shown}: {message}"));
        }
        if parameter.name == "save" {
            let added = self.settings.value(at).to_vec();
            if self.save_seen && !before.is_empty() && !added.is_empty() {
                self.settings.put("save", [before, added].join(&b' '));
            }
            self.save_seen = true;
        }
    }

    /// Flags: `--name value ...` and `--name=value`. What belongs to the
    /// program itself (`--help`) was taken out before.
    pub fn read_flags(&mut self, flags: &[String]) {
        let origin = Origin::CommandLine;
        let mut at = 0;
        while at < flags.len() {
            let Some(flag) = flags[at].strip_prefix("--").filter(|f| !f.is_empty()) else {
                self.problem(&origin, format!("`{}` is not expected here", flags[at]));
                at += 1;
                continue;
            };
            at += 1;
            if let Some((name, value)) = flag.split_once('=') {
                self.directive(name.as_bytes(), &[value.as_bytes()], &origin);
                continue;
            }
            let from = at;
            while at < flags.len() && !flags[at].starts_with("--") {
                at += 1;
            }
            let args: Vec<&[u8]> = flags[from..at].iter().map(|a| a.as_bytes()).collect();
            self.directive(flag.as_bytes(), &args, &origin);
        }
    }
}

fn unknown(name: &str) -> String {
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return format!("`{name}` is not supported: {why}");
    }
    match suggestion(name) {
        Some(near) => format!("unknown setting `{name}`; did you mean `{near}`?"),
        None => format!("unknown setting `{name}`"),
    }
}

/// The words of a line, quoted as in Redis. `None`: a quote is not closed.
pub(super) fn split_line(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    // An inline request is such a line; the blank keeps a `*` from being a header.
    let mut input = BytesMut::with_capacity(line.len() + 2);
    input.extend_from_slice(b" ");
    input.extend_from_slice(line);
    input.extend_from_slice(b"\n");
    let limits = Limits {
        max_inline: MAX_LINE,
        ..Limits::default()
    };
    let mut requests = Requests::default();
    match RequestParser::new().parse(&mut input, &limits, 1, &mut requests) {
        Ok(0) => Some(Vec::new()),
        Ok(_) => Some(requests.get(0).iter().map(<[u8]>::to_vec).collect()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Loader {
        let mut loader = Loader::default();
        loader.read_lines(text.as_bytes(), Path::new("test.conf"), 0);
        loader
    }

    #[test]
    fn lines_are_read_with_quotes_and_comments() {
        let loader =
            load("# a comment\n\nport 7000\r\nrequirepass \"a b\\x41\"\nbind 127.0.0.1 ::1\n");
        assert_eq!(loader.problems, []);
        assert_eq!(loader.settings.bytes("port"), b"7000");
        assert_eq!(loader.settings.bytes("requirepass"), b"a bA");
        assert_eq!(loader.settings.bytes("bind"), b"127.0.0.1 ::1");
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        let loader = load("prot 1\nport x\nrequirepass \"a\nmaxclients 5\nloadmodule x.so\n");
        let told: Vec<String> = loader.problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            told,
            [
                "test.conf:1: unknown setting `prot`; did you mean `port`?",
                "test.conf:2: port: argument couldn't be parsed into an integer",
                "test.conf:3: unbalanced quotes",
                "test.conf:5: `loadmodule` is not supported: Redis modules cannot be loaded",
            ]
        );
        assert_eq!(loader.settings.count("maxclients"), 5);
    }

    #[test]
    fn save_lines_add_up_and_flags_override() {
        let mut loader = load("save 10 1\nsave 20 2\nport 1\n");
        assert_eq!(loader.settings.bytes("save"), b"10 1 20 2");
        let flags = [
            "--port",
            "2",
            "--bind",
            "127.0.0.1",
            "::1",
            "--timeout=9",
            "stray",
        ];
        loader.read_flags(&flags.map(str::to_owned));
        assert_eq!(loader.settings.bytes("port"), b"2");
        assert_eq!(loader.settings.bytes("timeout"), b"9");
        assert_eq!(loader.problems.len(), 1);
    }

    #[test]
    fn includes_are_followed_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own.conf");
        std::fs::write(folder.path().join("a.inc"), "port 1\nbroken\n").unwrap();
        let text = format!(
            "include {0}/*.inc\ninclude {0}/*.none\ninclude {0}/own.conf\n",
            folder.path().display()
        );
        std::fs::write(&own, text).unwrap();
        let mut loader = Loader::default();
        loader.read_file(&own);
        assert_eq!(loader.settings.bytes("port"), b"1");
        let last = loader.problems.last().unwrap();
        assert!(
            loader.problems[0]
                .to_string()
                .contains("a.inc:2: unknown setting `broken`")
        );
        assert!(
            loader
                .problems
                .iter()
                .any(|p| p.message.contains("without end")),
            "{last}"
        );
    }
}
