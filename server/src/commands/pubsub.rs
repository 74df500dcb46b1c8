//! Pub/sub commands. Wire side only; who listens to what is `crate::pubsub`.
//!
//! Confirmations are messages as any other: they go through the client's own
//! outbox, so that they come in order with what others publish, and even to a
//! client that wants no replies.

use std::sync::Arc;

use cairn_protocol::acl::Subject;
use cairn_protocol::resp::{Args, ReplyWriter};

use super::{Handler, container, help, subcommand_syntax};
use crate::net::outbox::Message;
use crate::net::session::{Next, Session};
use crate::pubsub::{Kind, put_confirmation};
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[
    ("psubscribe", Handler::Session(psubscribe)),
    ("publish", Handler::Session(publish)),
    ("pubsub", Handler::Session(container)),
    ("pubsub|channels", Handler::Session(pubsub_channels)),
    ("pubsub|help", Handler::Session(pubsub_help)),
    ("pubsub|numpat", Handler::Session(pubsub_numpat)),
    ("pubsub|numsub", Handler::Session(pubsub_numsub)),
    (
        "pubsub|shardchannels",
        Handler::Session(pubsub_shardchannels),
    ),
    ("pubsub|shardnumsub", Handler::Session(pubsub_shardnumsub)),
    ("punsubscribe", Handler::Session(punsubscribe)),
    ("spublish", Handler::Session(spublish)),
    ("ssubscribe", Handler::Session(ssubscribe)),
    ("subscribe", Handler::Session(subscribe)),
    ("sunsubscribe", Handler::Session(sunsubscribe)),
    ("unsubscribe", Handler::Session(unsubscribe)),
];

type Done = Result<Next, CommandError>;

/// PSUBSCRIBE pattern [pattern ...]
fn psubscribe(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    begin(session, args, out, Kind::Pattern, b"psubscribe")
}

/// PUBLISH channel message
///
/// Replies with the number of receivers on this node. A client that listens
/// itself gets the message before the reply.
fn publish(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (channel, message) = (args.get(1), args.get(2));
    let receivers = session.server.publish(channel, message);
    session.deliver(out);
    out.integer(receivers as i64);
    Ok(Next::Continue)
}

/// PUBSUB CHANNELS [pattern]
fn pubsub_channels(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    channels(session, args, out, Kind::Channel, "pubsub|channels")
}

/// PUBSUB HELP
fn pubsub_help(_: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    help(out, "PUBSUB", HELP);
    Ok(Next::Continue)
}

/// PUBSUB NUMPAT
fn pubsub_numpat(session: &mut Session, _: &Args<'_>, out: &mut ReplyWriter) -> Done {
    out.integer(session.server.pubsub().count(Kind::Pattern) as i64);
    Ok(Next::Continue)
}

/// PUBSUB NUMSUB [channel ...]
fn pubsub_numsub(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    numbers(session, args, out, Kind::Channel)
}

/// PUBSUB SHARDCHANNELS [pattern]
fn pubsub_shardchannels(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    channels(session, args, out, Kind::Shard, "pubsub|shardchannels")
}

/// PUBSUB SHARDNUMSUB [shardchannel ...]
fn pubsub_shardnumsub(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    numbers(session, args, out, Kind::Shard)
}

/// PUNSUBSCRIBE [pattern ...]
fn punsubscribe(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    end(session, args, out, Kind::Pattern, b"punsubscribe")
}

/// SPUBLISH shardchannel message
fn spublish(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    let (channel, message) = (args.get(1), args.get(2));
    let receivers = session.server.publish_to_shard(channel, message);
    session.deliver(out);
    out.integer(receivers as i64);
    Ok(Next::Continue)
}

/// SSUBSCRIBE shardchannel [shardchannel ...]
fn ssubscribe(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    begin(session, args, out, Kind::Shard, b"ssubscribe")
}

/// SUBSCRIBE channel [channel ...]
fn subscribe(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    begin(session, args, out, Kind::Channel, b"subscribe")
}

/// SUNSUBSCRIBE [shardchannel ...]
fn sunsubscribe(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    end(session, args, out, Kind::Shard, b"sunsubscribe")
}

/// UNSUBSCRIBE [channel ...]
fn unsubscribe(session: &mut Session, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    end(session, args, out, Kind::Channel, b"unsubscribe")
}

fn begin(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut ReplyWriter,
    kind: Kind,
    word: &[u8],
) -> Done {
    for name in args.iter().skip(1) {
        let client = &session.client;
        let confirm = |count| confirm(session, out, word, Some(name), count);
        session
            .server
            .pubsub()
            .subscribe(client, kind, name, confirm);
        // The right may have been taken away after it was asked for, when there
        // was no subscription yet to be found.
        let may = |user: &Arc<Subject>| user.may_listen(name, kind == Kind::Pattern);
        if !session.subject().is_none_or(may) {
            session.client.kill();
        }
    }
    session.deliver(out);
    Ok(Next::Continue)
}

fn end(
    session: &mut Session,
    args: &Args<'_>,
    out: &mut ReplyWriter,
    kind: Kind,
    word: &[u8],
) -> Done {
    let pubsub = session.server.pubsub();
    let mut leave = |name: &[u8]| {
        let confirm = |count| confirm(session, out, word, Some(name), count);
        pubsub.unsubscribe(&session.client, kind, name, confirm);
    };
    if args.len() > 1 {
        args.iter().skip(1).for_each(&mut leave);
    } else {
        let all = session.client.subscriptions.names(kind);
        all.iter().for_each(|name| leave(name));
        if all.is_empty() {
            // Subscribed to nothing: there is an answer all the same.
            let own = &session.client.subscriptions;
            let count = match kind {
                Kind::Shard => 0,
                _ => own.count(Kind::Channel) + own.count(Kind::Pattern),
            };
            confirm(session, out, word, None, count);
        }
    }
    session.deliver(out);
    Ok(Next::Continue)
}

fn confirm(
    session: &Session,
    out: &mut ReplyWriter,
    word: &[u8],
    name: Option<&[u8]>,
    count: usize,
) {
    let write = |out: &mut ReplyWriter| put_confirmation(out, word, name, count);
    session.confirm(&mut Message::new(&write), out);
}

fn channels(
    session: &Session,
    args: &Args<'_>,
    out: &mut ReplyWriter,
    kind: Kind,
    full_name: &str,
) -> Done {
    if args.len() > 3 {
        return Err(subcommand_syntax(args, full_name));
    }
    let names = session.server.pubsub().channels(kind, args.try_get(2));
    out.array(names.len());
    names.iter().for_each(|name| out.bulk(name));
    Ok(Next::Continue)
}

fn numbers(session: &Session, args: &Args<'_>, out: &mut ReplyWriter, kind: Kind) -> Done {
    out.array((args.len() - 2) * 2);
    for name in args.iter().skip(2) {
        out.bulk(name);
        out.integer(session.server.pubsub().listeners(kind, name) as i64);
    }
    Ok(Next::Continue)
}

const HELP: &[&str] = &[
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
];
