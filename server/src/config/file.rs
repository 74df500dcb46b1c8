//! Reading configurations: files in the form of redis.conf, then flags.
//!
//! Every problem is found, not only the first, and names where it is.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use cairn_protocol::acl::{Defaults, User, has_space_or_nul};
use cairn_protocol::command::{Renames, glob_match};
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
    /// An option of the command line, its values quoted.
    Flag(String),
    /// The configuration as a whole.
    Whole,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Flag(option) => write!(f, "command line, '{option}'"),
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
    pub users: Vec<DeclaredUser>,
    /// `rename-command` lines, in their order.
    pub renames: Renames,
}

/// `user NAME rules...` of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredUser {
    pub name: Vec<u8>,
    pub rules: Vec<Vec<u8>>,
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
            if shown == "user" {
                return self.user(args, origin);
            }
            if shown == "rename-command" {
                return self.rename_command(args, origin);
            }
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

    /// `rename-command FROM TO`; as one word on the command line.
    fn rename_command(&mut self, args: &[&[u8]], origin: &Origin) {
        let words: Vec<Vec<u8>> = match args {
            [all] => split_line(all).unwrap_or_default(),
            _ => args.iter().map(|arg| arg.to_vec()).collect(),
        };
        let [from, to] = &words[..] else {
            return self.problem(origin, "rename-command needs a command and its new name");
        };
        if let Err(error) = self.renames.rename(from, to) {
            self.problem(origin, error.to_string());
        }
    }

    /// A user: its rules are tried here, and taken when the server starts.
    fn user(&mut self, args: &[&[u8]], origin: &Origin) {
        let words: Vec<Vec<u8>> = match args {
            // As one word on the command line.
            [all] => split_line(all).unwrap_or_default(),
            _ => args.iter().map(|arg| arg.to_vec()).collect(),
        };
        let Some((name, rules)) = words.split_first() else {
            return self.problem(origin, "user needs a name");
        };
        if has_space_or_nul(name) {
            return self.problem(origin, "Spaces not allowed in ACL usernames");
        }
        if self.users.iter().any(|known| known.name == *name) {
            let text = "Duplicate user found. A user can only be defined once in config files";
            return self.problem(origin, text);
        }
        let defaults = Defaults::default();
        if let Err(error) = User::new(name, defaults).apply_all(rules, defaults) {
            return self.problem(origin, error);
        }
        self.users.push(DeclaredUser {
            name: name.clone(),
            rules: rules.to_vec(),
        });
    }

    /// Flags: `--name value ...`, `--name=value`, and both in one word. What belongs
    /// to the program itself (`--help`) was taken out before.
    ///
    /// As in Redis, what follows a name is a value even if it begins with `--`.
    pub fn read_flags(&mut self, flags: &[String]) {
        let mut option: Option<Vec<Vec<u8>>> = None;
        let mut has_value = true;
        for (at, flag) in flags.iter().enumerate() {
            let Some(text) = flag.strip_prefix("--").filter(|_| has_value) else {
                let words = option.get_or_insert_default();
                words.push(flag.clone().into_bytes());
                has_value = true;
                continue;
            };
            self.take_option(option.take());
            let mut words = split_line(text.as_bytes()).unwrap_or_default();
            if let [only] = &words[..]
                && let Some(split) = only.iter().position(|byte| *byte == b'=')
            {
                words = vec![only[..split].to_vec(), only[split + 1..].to_vec()];
            }
            has_value = words.len() > 1;
            // The one value that may be left out, because older programs did.
            let bare = flags.get(at + 1).is_none_or(|next| next.starts_with("--"));
            if bare && words.len() == 1 && words[0].eq_ignore_ascii_case(b"save") {
                words.push(Vec::new());
                has_value = true;
            }
            option = Some(words);
        }
        self.take_option(option);
    }

    fn take_option(&mut self, words: Option<Vec<Vec<u8>>>) {
        let words = words.unwrap_or_default();
        let Some((name, values)) = words.split_first() else {
            return;
        };
        let mut shown = String::from_utf8_lossy(name).into_owned();
        for value in values {
            shown += &format!(" \"{}\"", value.escape_ascii());
        }
        let args: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        self.directive(name, &args, &Origin::Flag(shown));
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
        let flags = ["--port", "2", "--bind", "127.0.0.1", "::1", "--timeout=9"];
        loader.read_flags(&flags.map(str::to_owned));
        loader.read_flags(&["stray".to_owned()]);
        assert_eq!(loader.settings.bytes("port"), b"2");
        assert_eq!(loader.settings.bytes("timeout"), b"9");
        assert_eq!(loader.problems.len(), 1);
    }

    #[test]
    fn flags_take_values_as_redis_does() {
        let read = |flags: &[&str]| {
            let mut loader = Loader::default();
            let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            loader.read_flags(&flags);
            loader
        };
        let told = |flags: &[&str]| read(flags).problems[0].to_string();
        assert_eq!(
            told(&["--port"]),
            "command line, 'port': port: wrong number of arguments"
        );
        assert_eq!(
            told(&["--port", "--loglevel", "verbose"]),
            "command line, 'port \"--loglevel\" \"verbose\"': port: wrong number of arguments"
        );
        let one = read(&["--maxmemory 700mb", "--loglevel", "verbose"]);
        assert_eq!(one.problems, []);
        assert_eq!(one.settings.bytes("maxmemory"), b"734003200");
        let title = read(&["--proc-title-template", "--my--title", "--save"]);
        assert_eq!(title.problems, []);
        assert_eq!(title.settings.bytes("proc-title-template"), b"--my--title");
        assert_eq!(title.settings.bytes("save"), b"");
        let words = read(&["loglevel", "verbose", "--save", "--port", "1"]);
        assert_eq!(words.problems, []);
        assert_eq!(words.settings.bytes("loglevel"), b"verbose");
        assert_eq!(words.settings.bytes("port"), b"1");
    }

    #[test]
    fn users_are_declared_once_and_with_rules_that_are_right() {
        let loader = load("user a on +get ( ~x +set )\nuser a off\nuser b +nosuch\nuser\n");
        let told: Vec<String> = loader.problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            told,
            [
                "test.conf:2: Duplicate user found. A user can only be defined once in config files",
                "test.conf:3: Error in ACL SETUSER modifier '+nosuch': Unknown command or category \
                 name in ACL",
                "test.conf:4: user needs a name",
            ]
        );
        assert_eq!(loader.users.len(), 1);
        assert_eq!(loader.users[0].name, b"a");
    }

    #[test]
    fn commands_are_renamed_in_the_order_of_the_lines() {
        let loader = load(
            "rename-command flushdb badger\nrename-command CONFIG \"\"\nrename-command nope x\n\
             rename-command get set\nrename-command get\nrename-command badger flushdb\n",
        );
        let told: Vec<String> = loader.problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            told,
            [
                "test.conf:3: No such command in rename-command",
                "test.conf:4: Target command name already exists",
                "test.conf:5: rename-command needs a command and its new name",
            ]
        );
        let found = |name: &[u8]| loader.renames.find(name).map(|spec| spec.name);
        assert_eq!(found(b"flushdb"), Some("flushdb"));
        assert_eq!(found(b"badger"), None);
        assert_eq!(found(b"config"), None);
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
