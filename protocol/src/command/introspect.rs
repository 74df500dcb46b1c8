//! What COMMAND and its subcommands answer, in the form of Redis 7.0.
//!
//! Each builder takes `implemented`, which says of a command or subcommand
//! whether this program runs it: what it does not run, it neither lists nor
//! counts nor knows. Commands come by name, where Redis has no order at all.

use super::bits::AclCategories;
use super::docs::{Argument, ArgumentKind, Docs};
use super::glob::glob_match;
use super::id::COUNT;
use super::keys::{ArgList, KeyList, KeysError};
use super::lookup::{Resolved, resolve, top_level};
use super::renamed::{is_reachable, lookup_called_full};
use super::spec::{BeginSearch, CommandSpec, FindKeys, KeySpec};
use crate::resp::ReplyWriter;

/// Whether the program runs a command or subcommand.
pub type Implemented<'a> = &'a dyn Fn(&CommandSpec) -> bool;

const SYNTAX_ERROR: &str = "ERR syntax error";

/// More names than this in COMMAND INFO and DOCS are refused: a request must
/// not cost a reply of a thousand times its size without end.
const MAX_NAMES: usize = 2 * COUNT;
const TOO_MANY_NAMES: &str = "ERR too many command names";
const INVALID_COMMAND: &str = "ERR Invalid command specified";

/// COMMAND
pub fn command(reply: &mut ReplyWriter, implemented: Implemented) {
    let commands: Vec<_> = commands(implemented).collect();
    reply.array(commands.len());
    for spec in commands {
        command_entry(reply, spec, implemented);
    }
}

/// COMMAND COUNT
pub fn count(reply: &mut ReplyWriter, implemented: Implemented) {
    reply.integer(commands(implemented).count() as i64);
}

/// COMMAND INFO [command-name ...]
pub fn info<A: ArgList + ?Sized>(reply: &mut ReplyWriter, args: &A, implemented: Implemented) {
    if args.len() == 2 {
        return command(reply, implemented);
    }
    if args.len() - 2 > MAX_NAMES {
        return reply.error(TOO_MANY_NAMES);
    }
    reply.array(args.len() - 2);
    for index in 2..args.len() {
        match find(args.get(index), implemented) {
            Some(spec) => command_entry(reply, spec, implemented),
            None => reply.null(),
        }
    }
}

/// COMMAND DOCS [command-name ...]
pub fn docs<A: ArgList + ?Sized>(reply: &mut ReplyWriter, args: &A, implemented: Implemented) {
    if args.len() - 2 > MAX_NAMES {
        return reply.error(TOO_MANY_NAMES);
    }
    let specs: Vec<&CommandSpec> = match args.len() {
        2 => commands(implemented).collect(),
        len => (2..len)
            .filter_map(|index| find(args.get(index), implemented))
            .collect(),
    };
    reply.map(specs.len());
    for spec in specs {
        bulk(reply, spec.name);
        docs_entry(reply, spec, implemented);
    }
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]
pub fn list<A: ArgList + ?Sized>(reply: &mut ReplyWriter, args: &A, implemented: Implemented) {
    let Some(filter) = ListFilter::parse(args) else {
        return reply.error(SYNTAX_ERROR);
    };
    let names: Vec<&str> = commands(implemented)
        .flat_map(|spec| std::iter::once(spec).chain(subcommands(spec, implemented)))
        .filter(|spec| filter.accepts(spec))
        .map(|spec| spec.name)
        .collect();
    reply.array(names.len());
    for name in names {
        bulk(reply, name);
    }
}

/// COMMAND GETKEYS command [argument ...]
pub fn getkeys<A: ArgList + ?Sized>(reply: &mut ReplyWriter, args: &A, implemented: Implemented) {
    let request = Following { args, skipped: 2 };
    match requested_keys(&request, implemented) {
        Ok(keys) => {
            reply.array(keys.len());
            for key in keys {
                reply.bulk(request.get(key.index as usize));
            }
        }
        Err(error) => reply.error(error),
    }
}

/// COMMAND GETKEYSANDFLAGS command [argument ...]
pub fn getkeysandflags<A: ArgList + ?Sized>(
    reply: &mut ReplyWriter,
    args: &A,
    implemented: Implemented,
) {
    let request = Following { args, skipped: 2 };
    match requested_keys(&request, implemented) {
        Ok(keys) => {
            reply.array(keys.len());
            for key in keys {
                reply.array(2);
                reply.bulk(request.get(key.index as usize));
                names(reply, key.flags.names());
            }
        }
        Err(error) => reply.error(error),
    }
}

/// COMMAND HELP
pub fn help(reply: &mut ReplyWriter) {
    super::help(reply, "COMMAND", HELP);
}

const HELP: &[&str] = &[
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full Redis command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full Redis command.",
];

fn commands(implemented: Implemented) -> impl Iterator<Item = &'static CommandSpec> {
    top_level().filter(move |spec| implemented(spec) && is_reachable(spec))
}

fn subcommands(
    spec: &'static CommandSpec,
    implemented: Implemented,
) -> impl Iterator<Item = &'static CommandSpec> {
    spec.subcommands.iter().filter(move |sub| implemented(sub))
}

fn find(name: &[u8], implemented: Implemented) -> Option<&'static CommandSpec> {
    lookup_called_full(name).filter(|spec| implemented(spec))
}

/// The keys of the request inside a COMMAND GETKEYS, or the error's text.
fn requested_keys<A: ArgList + ?Sized>(
    request: &A,
    implemented: Implemented,
) -> Result<KeyList, String> {
    let Resolved::Command(spec) = resolve(request) else {
        return Err(INVALID_COMMAND.to_owned());
    };
    if !implemented(spec) {
        return Err(INVALID_COMMAND.to_owned());
    }
    spec.keys(request)
        .map_err(|error: KeysError| error.to_string())
}

/// The arguments after the first `skipped`.
struct Following<'a, A: ?Sized> {
    args: &'a A,
    skipped: usize,
}

impl<A: ArgList + ?Sized> ArgList for Following<'_, A> {
    fn len(&self) -> usize {
        self.args.len().saturating_sub(self.skipped)
    }

    fn get(&self, index: usize) -> &[u8] {
        self.args.get(index + self.skipped)
    }
}

/// Which names COMMAND LIST gives.
enum ListFilter<'a> {
    All,
    /// Commands of a module: there are no modules.
    Module,
    /// `None` is a category that does not exist.
    Category(Option<AclCategories>),
    Pattern(&'a [u8]),
}

impl<'a> ListFilter<'a> {
    fn parse<A: ArgList + ?Sized>(args: &'a A) -> Option<Self> {
        let is = |index: usize, word: &str| args.get(index).eq_ignore_ascii_case(word.as_bytes());
        match args.len() {
            2 => Some(ListFilter::All),
            5 if is(2, "filterby") => match () {
                () if is(3, "module") => Some(ListFilter::Module),
                () if is(3, "aclcat") => {
                    let category = AclCategories::from_name(args.get(4));
                    Some(ListFilter::Category(category))
                }
                () if is(3, "pattern") => Some(ListFilter::Pattern(args.get(4))),
                () => None,
            },
            _ => None,
        }
    }

    fn accepts(&self, spec: &CommandSpec) -> bool {
        match self {
            ListFilter::All => true,
            ListFilter::Module | ListFilter::Category(None) => false,
            ListFilter::Category(Some(category)) => spec.categories.contains(*category),
            ListFilter::Pattern(pattern) => glob_match(pattern, spec.name.as_bytes(), true),
        }
    }
}

/// One command as COMMAND and COMMAND INFO show it.
fn command_entry(reply: &mut ReplyWriter, spec: &'static CommandSpec, implemented: Implemented) {
    reply.array(10);
    bulk(reply, spec.name);
    reply.integer(spec.arity.into());
    names(reply, spec.flags.names());
    reply.integer(spec.first_key.into());
    reply.integer(spec.last_key.into());
    reply.integer(spec.step.into());
    category_names(reply, spec.categories);
    reply.set(spec.tips.len());
    for tip in spec.tips {
        bulk(reply, tip);
    }
    reply.set(spec.key_specs.len());
    for key_spec in spec.key_specs {
        key_spec_entry(reply, key_spec);
    }
    let subs: Vec<_> = subcommands(spec, implemented).collect();
    match subs.is_empty() {
        true => reply.set(0),
        false => reply.array(subs.len()),
    }
    for sub in subs {
        command_entry(reply, sub, implemented);
    }
}

fn category_names(reply: &mut ReplyWriter, categories: AclCategories) {
    reply.set(categories.names().count());
    for name in categories.names() {
        reply.simple(format!("@{name}"));
    }
}

fn key_spec_entry(reply: &mut ReplyWriter, spec: &KeySpec) {
    reply.map(3 + spec.notes.is_some() as usize);
    field(reply, "notes", spec.notes);
    bulk(reply, "flags");
    names(reply, spec.flags.names());
    bulk(reply, "begin_search");
    match spec.begin_search {
        BeginSearch::Index(index) => search(reply, "index", &[("index", index)]),
        BeginSearch::Unknown => search(reply, "unknown", &[]),
        BeginSearch::Keyword(word, from) => {
            search_header(reply, "keyword", 2);
            field(reply, "keyword", Some(word));
            number(reply, "startfrom", from);
        }
    }
    bulk(reply, "find_keys");
    match spec.find_keys {
        FindKeys::Range { last, step, limit } => {
            let numbers = [("lastkey", last), ("keystep", step), ("limit", limit)];
            search(reply, "range", &numbers);
        }
        FindKeys::KeyNum { count, first, step } => {
            let numbers = [("keynumidx", count), ("firstkey", first), ("keystep", step)];
            search(reply, "keynum", &numbers);
        }
        FindKeys::Unknown => search(reply, "unknown", &[]),
    }
}

fn search(reply: &mut ReplyWriter, kind: &str, numbers: &[(&str, i32)]) {
    search_header(reply, kind, numbers.len());
    for (name, value) in numbers {
        number(reply, name, *value);
    }
}

fn search_header(reply: &mut ReplyWriter, kind: &str, fields: usize) {
    reply.map(2);
    field(reply, "type", Some(kind));
    bulk(reply, "spec");
    reply.map(fields);
}

/// One command as COMMAND DOCS shows it; what is empty is left out.
fn docs_entry(reply: &mut ReplyWriter, spec: &'static CommandSpec, implemented: Implemented) {
    let docs = spec.docs;
    let subs: Vec<_> = subcommands(spec, implemented).collect();
    reply.map(docs_fields(docs) + !subs.is_empty() as usize);
    field(reply, "summary", Some(docs.summary));
    field(reply, "since", Some(docs.since));
    field(reply, "group", Some(docs.group.name()));
    field(reply, "complexity", docs.complexity);
    if !docs.doc_flags.is_empty() {
        bulk(reply, "doc_flags");
        names(reply, docs.doc_flags.names());
    }
    field(reply, "deprecated_since", docs.deprecated_since);
    field(reply, "replaced_by", docs.replaced_by);
    if !docs.history.is_empty() {
        bulk(reply, "history");
        reply.set(docs.history.len());
        for (since, change) in docs.history {
            reply.array(2);
            bulk(reply, since);
            bulk(reply, change);
        }
    }
    if !docs.arguments.is_empty() {
        bulk(reply, "arguments");
        arguments(reply, docs.arguments);
    }
    if !subs.is_empty() {
        bulk(reply, "subcommands");
        reply.map(subs.len());
        for sub in subs {
            bulk(reply, sub.name);
            docs_entry(reply, sub, implemented);
        }
    }
}

/// How many fields of its own a command's docs have.
fn docs_fields(docs: &Docs) -> usize {
    let optional = [
        docs.complexity.is_some(),
        !docs.doc_flags.is_empty(),
        docs.deprecated_since.is_some(),
        docs.replaced_by.is_some(),
        !docs.history.is_empty(),
        !docs.arguments.is_empty(),
    ];
    3 + optional.iter().filter(|present| **present).count()
}

fn arguments(reply: &mut ReplyWriter, arguments: &[Argument]) {
    reply.array(arguments.len());
    for one in arguments {
        argument(reply, one);
    }
}

fn argument(reply: &mut ReplyWriter, argument: &Argument) {
    let has_parts = matches!(argument.kind, ArgumentKind::OneOf | ArgumentKind::Block);
    let flags = argument_flags(argument);
    let optional = [
        argument.key_spec_index.is_some(),
        argument.token.is_some(),
        argument.since.is_some(),
        argument.deprecated_since.is_some(),
        !flags.is_empty(),
        has_parts,
    ];
    reply.map(2 + optional.iter().filter(|present| **present).count());
    field(reply, "name", Some(argument.name));
    field(reply, "type", Some(argument.kind.name()));
    if let Some(index) = argument.key_spec_index {
        number(reply, "key_spec_index", index.into());
    }
    field(reply, "token", argument.token);
    field(reply, "since", argument.since);
    field(reply, "deprecated_since", argument.deprecated_since);
    if !flags.is_empty() {
        bulk(reply, "flags");
        names(reply, flags.iter().copied());
    }
    if has_parts {
        bulk(reply, "arguments");
        arguments(reply, argument.arguments);
    }
}

fn argument_flags(argument: &Argument) -> Vec<&'static str> {
    [
        (argument.optional, "optional"),
        (argument.multiple, "multiple"),
        (argument.multiple_token, "multiple_token"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

/// A set of status replies.
fn names<'a>(reply: &mut ReplyWriter, names: impl Iterator<Item = &'a str>) {
    let names: Vec<_> = names.collect();
    reply.set(names.len());
    for name in names {
        reply.simple(name);
    }
}

fn bulk(reply: &mut ReplyWriter, text: &str) {
    reply.bulk(text.as_bytes());
}

/// A map's entry, if it has a value.
fn field(reply: &mut ReplyWriter, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        bulk(reply, name);
        bulk(reply, value);
    }
}

fn number(reply: &mut ReplyWriter, name: &str, value: i32) {
    bulk(reply, name);
    reply.integer(value.into());
}
