//! A connection whose command waits for its keys.
//!
//! What comes behind it in the pipeline waits with it. The socket is still
//! read, so that a client that goes is noticed; what it sends is kept, up to
//! a bound.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use super::submit::{UNKNOWN, dispatched};
use super::{Connection, End, Pace};
use crate::group::Group;
use crate::group::blocked::{Release, Waiter};
use crate::group::submission::QueuedCommand;
use crate::net::session::{Client, UNBLOCKED, Unblock};
use crate::server::Server;
use crate::txn::ErrorCode;

/// Bytes read ahead of a command that waits.
const MAX_READ_AHEAD: usize = 1 << 20;
/// How often a waiter in a cluster looks whether its slot is still here.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const DEMOTED: &str = "UNBLOCKED force unblock from blocking operation, instance state changed \
                       (master -> replica?)";

/// A client that is counted as blocked.
pub(super) struct BlockedClient {
    server: Arc<Server>,
    client: Arc<Client>,
}

impl BlockedClient {
    pub(super) fn new(server: &Arc<Server>, client: &Arc<Client>) -> BlockedClient {
        server.blocked.fetch_add(1, Ordering::Relaxed);
        BlockedClient {
            server: server.clone(),
            client: client.clone(),
        }
    }
}

impl Drop for BlockedClient {
    fn drop(&mut self) {
        self.client.end_blocked();
        self.server.blocked.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a connection stops waiting.
enum Woken {
    Over(Release),
    TimeOut,
    Unblocked(Unblock),
    Stranded,
}

impl Connection {
    /// Waits until a blocked command is answered. False: it is to be sent again.
    pub(super) async fn wait_blocked(
        &mut self,
        group: &Arc<Group>,
        waiter: &Waiter,
        command: &QueuedCommand,
    ) -> Result<bool, End> {
        let until = match self.blocked_until {
            Some(until) => until,
            None => {
                self.show(command.request as usize, dispatched(command));
                *self.blocked_until.insert(deadline(waiter.timeout_ms))
            }
        };
        let mut woken = self.wait_woken(group, waiter, until).await;
        // Whoever gives up may find that it was served just now.
        if !matches!(woken, Ok(Woken::Over(_))) && !group.give_up(waiter) {
            let release = waiter.over().await;
            if release != Release::GivenUp && woken.is_ok() {
                woken = Ok(Woken::Over(release));
            }
        }
        let mut cost = (0, false);
        match woken? {
            Woken::Over(Release::Served) => {
                let (mut reply, nanos, failed) = waiter.take_reply();
                if failed {
                    let code = ErrorCode::of(&reply.to_vec());
                    self.session.server.stats.error_reply(code.as_str());
                }
                self.out.append(&mut reply);
                cost = (u64::from(nanos), failed);
            }
            Woken::Over(Release::Unknown) => self.out.error(UNKNOWN),
            Woken::Over(Release::Again | Release::GivenUp) | Woken::Stranded => return Ok(false),
            Woken::TimeOut | Woken::Unblocked(Unblock::TimeOut) => self.out.null_array(),
            Woken::Unblocked(Unblock::Demoted) => {
                self.out.error(DEMOTED);
                self.flush().await?;
                return Err(End::Closed);
            }
            Woken::Unblocked(Unblock::Error) => {
                self.session.server.stats.error_reply(UNBLOCKED);
                self.out.error(UNBLOCKED);
                cost.1 = true;
            }
        }
        self.account(
            command.request as usize,
            dispatched(command),
            cost.0,
            cost.1,
        );
        self.blocked_until = None;
        Ok(true)
    }

    /// Answers a command with a number that comes later (WAIT), as a client that
    /// is blocked.
    pub(super) async fn wait_answer(
        &mut self,
        mut over: Pin<Box<dyn Future<Output = ()>>>,
        number: Box<dyn Fn() -> i64>,
    ) -> Result<(), End> {
        self.flush().await?;
        let client = self.session.client.clone();
        let _counted = BlockedClient::new(&self.session.server, &client);
        client.begin_blocked();
        loop {
            let reading = self.input.len() < MAX_READ_AHEAD;
            // Every branch only tells why to stop; a cancelled read has taken nothing.
            tokio::select! {
                biased;
                () = &mut over => {
                    self.out.integer(number());
                    return Ok(());
                }
                () = client.killed() => return Err(End::Closed),
                how = client.unblocked() => {
                    match how {
                        Unblock::TimeOut => self.out.integer(number()),
                        Unblock::Error => {
                            self.session.server.stats.error_reply(UNBLOCKED);
                            self.out.error(UNBLOCKED);
                        }
                        Unblock::Demoted => {
                            self.out.error(DEMOTED);
                            self.flush().await?;
                            return Err(End::Closed);
                        }
                    }
                    return Ok(());
                }
                n = self.stream.read_buf(&mut self.input), if reading => {
                    if n? == 0 {
                        return Err(End::Closed);
                    }
                }
            }
        }
    }

    async fn wait_woken(
        &mut self,
        group: &Group,
        waiter: &Waiter,
        until: Option<Instant>,
    ) -> Result<Woken, End> {
        self.flush().await?;
        let client = self.session.client.clone();
        let _counted = BlockedClient::new(&self.session.server, &client);
        client.begin_blocked();
        let time_out = async {
            match until {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(time_out);
        let outcome = loop {
            let reading = self.input.len() < MAX_READ_AHEAD;
            // Every branch only tells why to stop; a cancelled read has taken nothing.
            tokio::select! {
                biased;
                release = waiter.over() => break Ok(Woken::Over(release)),
                () = client.disturbed() => {
                    if client.is_killed() {
                        break Err(End::Closed);
                    }
                    // Messages come also to a client that waits.
                    client.take_idle();
                    self.take_messages();
                    if let Err(end) = self.flush().await {
                        break Err(end);
                    }
                }
                how = client.unblocked() => break Ok(Woken::Unblocked(how)),
                () = &mut time_out => break Ok(Woken::TimeOut),
                n = self.stream.read_buf(&mut self.input), if reading => match n {
                    Ok(0) => break Err(End::Closed),
                    Ok(_) => {}
                    Err(error) => break Err(End::Io(error)),
                },
                () = tokio::time::sleep(LOOK_EVERY), if self.cluster => {
                    if group.is_stranded(waiter) {
                        break Ok(Woken::Stranded);
                    }
                }
            }
        };
        self.pace = Pace::default();
        outcome
    }
}

/// When a wait that begins now is over; `None`: never.
fn deadline(timeout_ms: u64) -> Option<Instant> {
    match timeout_ms {
        0 => None,
        // Beyond what a clock can say is for ever.
        _ => Instant::now().checked_add(Duration::from_millis(timeout_ms)),
    }
}
