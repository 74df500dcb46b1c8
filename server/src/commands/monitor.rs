//! MONITOR. Who is shown what is `crate::monitor`.

use cairn_protocol::resp::{Args, ReplyWriter};

use super::Handler;
use crate::net::session::{Next, Session};
use crate::txn::CommandError;

pub(super) const HANDLERS: &[(&str, Handler)] = &[("monitor", Handler::Session(monitor))];

/// MONITOR
///
/// A client that monitors already gets no reply, as in Redis.
fn monitor(
    session: &mut Session,
    _: &Args<'_>,
    out: &mut ReplyWriter,
) -> Result<Next, CommandError> {
    let client = &session.client;
    // Within MULTI every command has one reply; a session of a link is no transaction.
    if session.nested && !client.is_relayed() {
        return Err(CommandError::fixed(
            "ERR MONITOR isn't allowed for DENY BLOCKING client",
        ));
    }
    if !client.monitoring.load(std::sync::atomic::Ordering::Relaxed) {
        session.server.announcer.monitors.add(client);
        out.ok();
    }
    Ok(Next::Continue)
}
