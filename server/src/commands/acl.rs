//! ACL, as far as there is one user: `default`, who may do everything and has
//! the password of `requirepass`, if there is one.

use cairn_protocol::command::{self, AclCategories};
use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::resp::{Args, ReplyWriter};
use sha2::{Digest, Sha256};

use super::{Handler, help, subcommand_syntax};
use crate::net::session::{Next, Session};
use crate::server::Server;
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("acl", Handler::Session(super::container)),
    ("acl|cat", Handler::Session(cat)),
    ("acl|genpass", Handler::Session(genpass)),
    ("acl|getuser", Handler::Session(getuser)),
    ("acl|help", Handler::Session(acl_help)),
    ("acl|list", Handler::Session(list)),
    ("acl|users", Handler::Session(users)),
    ("acl|whoami", Handler::Session(whoami)),
];

type Done = Result<Next, CommandError>;

/// Bits of ACL GENPASS without an argument.
const PASSWORD_BITS: i64 = 256;
const MAX_PASSWORD_BITS: i64 = 4096;

/// ACL CAT [category]
fn cat(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    match args.len() {
        2 => {
            out.array(AclCategories::NAMES.len());
            AclCategories::NAMES
                .iter()
                .for_each(|(_, name)| out.bulk(name.as_bytes()));
        }
        3 => {
            let category = AclCategories::from_name(args.get(2)).ok_or_else(|| {
                let name = String::from_utf8_lossy(args.get(2));
                CommandError::line(format!("ERR Unknown category '{name}'"))
            })?;
            // Containers without their own behaviour are named by their subcommands.
            let names: Vec<&str> = command::all()
                .filter(|spec| super::handler(spec).is_some() && !spec.is_container())
                .filter(|spec| spec.categories.contains(category))
                .map(|spec| spec.name)
                .collect();
            out.array(names.len());
            names.iter().for_each(|name| out.bulk(name.as_bytes()));
        }
        _ => return Err(subcommand_syntax(args, "acl|cat")),
    }
    Ok(Next::Continue)
}

/// ACL GENPASS [bits]
fn genpass(_: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let bits = match args.try_get(2) {
        Some(_) if args.len() > 3 => return Err(subcommand_syntax(args, "acl|genpass")),
        Some(bits) => parse_i64(bits).ok_or(CommandError::NOT_AN_INTEGER)?,
        None => PASSWORD_BITS,
    };
    if !(1..=MAX_PASSWORD_BITS).contains(&bits) {
        return Err(CommandError::fixed(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a \
             positive number up to 4096",
        ));
    }
    let digits = (bits as usize).div_ceil(4);
    let digit = |_| char::from(b"0123456789abcdef"[rand::random_range(0..16)]);
    let password: String = (0..digits).map(digit).collect();
    out.bulk(password.as_bytes());
    Ok(Next::Continue)
}

/// ACL GETUSER username
fn getuser(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    if args.get(2) != b"default" {
        out.null();
        return Ok(Next::Continue);
    }
    let password = password_hash(&session.server);
    let mut flags = vec!["on"];
    flags.extend(password.is_none().then_some("nopass"));
    out.map(6);
    out.bulk(b"flags");
    out.set(flags.len());
    flags.iter().for_each(|flag| out.bulk(flag.as_bytes()));
    out.bulk(b"passwords");
    out.array(usize::from(password.is_some()));
    password.iter().for_each(|hash| out.bulk(hash.as_bytes()));
    for (name, value) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"selectors");
    out.array(0);
    Ok(Next::Continue)
}

/// ACL HELP
fn acl_help(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    help(out, "ACL", HELP);
    Ok(Next::Continue)
}

/// ACL LIST
fn list(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let password = match password_hash(&session.server) {
        Some(hash) => format!("#{hash}"),
        None => "nopass".into(),
    };
    out.array(1);
    out.bulk(format!("user default on {password} ~* &* +@all").as_bytes());
    Ok(Next::Continue)
}

/// ACL USERS
fn users(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.array(1);
    out.bulk(b"default");
    Ok(Next::Continue)
}

/// ACL WHOAMI
fn whoami(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.bulk(b"default");
    Ok(Next::Continue)
}

/// SHA-256 of the password in hex; `None`: there is no password.
fn password_hash(server: &Server) -> Option<String> {
    let password = server.password.read().clone()?;
    let hash = Sha256::digest(&password);
    Some(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

const HELP: &[&str] = &[
    "CAT [<category>]",
    "    List all commands that belong to <category>, or all command categories",
    "    when no category is specified.",
    "GETUSER <username>",
    "    Get the user's details.",
    "GENPASS [<bits>]",
    "    Generate a secure 256-bit user password. The optional `bits` argument can",
    "    be used to specify a different size.",
    "LIST",
    "    Show users details in config file format.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
];
