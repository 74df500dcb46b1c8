//! What happens to a command that was not executed.
//!
//! A node that does not own a slot (any more, or yet), or that is not there,
//! executes nothing. The client must not see that, only wait: its commands of
//! that lane (slot) are *parked*, while its other lanes go on. A parked lane
//! first waits until all that was sent of it is answered (the node's fence
//! refuses everything behind the first refusal, see `link/RULES.md`), then one
//! command, the oldest, *probes* the way; when it was executed, the others
//! follow in their old order.
//!
//! Invariants:
//! - a write that may have been executed is never sent again;
//! - the commands of a lane are executed in the order in which they came;
//! - no command is parked for longer than `max-pause`.

use super::call::Call;
use super::link::{Link, Sent};
use crate::net::{Client, ClientState, GivenUp, Lent, Thread};
use crate::route::{Lane, Owner, SLOTS};
use crate::timing;
use bytes::Bytes;
use cairn_protocol::link::{ELSEWHERE, LinkError, Moved, Reason, Reply, ReplyClass, RequestFlags};
use cairn_protocol::resp::number::parse_u64;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Waiting time before the first further try, in ms; doubled up to the longest.
const BACKOFF_MS: u64 = 1;
const BACKOFF_MAX_MS: u64 = 16;
/// Redirects that are followed at once; further ones wait as well.
const QUICK_REDIRECTS: u8 = 3;
/// A SCAN that has taken so long, in ms, goes on in no other group.
const SCAN_MS: u64 = 1000;

const LOST: &[u8] =
    b"-UNKNOWN the connection to the node was lost; the command may have been executed\r\n";

/// Why a lane is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// The map names no owner, or no address of its leader.
    NoRoute,
    /// The leader's node cannot be reached.
    NodeDown(Rc<str>),
    /// A reshard is switching the slot.
    Frozen,
    /// Nodes disagree with the map.
    Moved,
    /// The node did not execute it and says why.
    Refused(Bytes),
    /// Another command of the same lane is parked.
    Behind,
}

/// Commands of one client and lane that wait for a way.
pub(crate) struct ParkedLane {
    lane: Lane,
    /// In the client's order.
    calls: VecDeque<Call>,
    /// Commands of this lane that are still unanswered at a node.
    in_flight: u32,
    /// The command that tries the way.
    probe: Option<(u64, u32)>,
    /// When to try next, in the thread's ms.
    retry_at: u64,
    backoff_ms: u64,
    redirects: u8,
    /// A refusal named a new way: try it at once.
    new_way: bool,
    /// Node to ask once, with ASKING.
    ask: Option<Rc<str>>,
    why: Why,
}

impl ParkedLane {
    fn new(lane: Lane, in_flight: u32) -> Self {
        Self {
            lane,
            calls: VecDeque::new(),
            in_flight,
            probe: None,
            retry_at: 0,
            backoff_ms: BACKOFF_MS,
            redirects: 0,
            new_way: false,
            ask: None,
            why: Why::Behind,
        }
    }

    /// Puts a call where it belongs in the order.
    fn insert(&mut self, call: Call) {
        let at = self
            .calls
            .partition_point(|other| other.order() < call.order());
        self.calls.insert(at, call);
    }

    fn answered(&mut self, order: (u64, u32)) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        let was_probe = self.probe == Some(order);
        if was_probe {
            self.probe = None;
        }
        was_probe
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.probe.is_none()
    }

    /// Sets the time of the next try.
    fn schedule(&mut self, now: u64) {
        if std::mem::take(&mut self.new_way) && self.redirects < QUICK_REDIRECTS {
            self.redirects += 1;
            self.retry_at = now;
            return;
        }
        self.retry_at = now + self.backoff_ms;
        self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MAX_MS);
    }
}

/// Sends a call, or parks it behind what its lane already waits for.
pub(crate) fn submit(thread: &Rc<Thread>, state: &mut ClientState, call: Call) {
    if let Some(at) = find(state, call.lane) {
        state.lanes[at].insert(call);
    } else if !state.backlog.is_empty() {
        state.backlog.push_back(call);
    } else {
        forward(thread, state, call);
    }
}

/// Sends what waited for a session's window.
fn drain_backlog(thread: &Rc<Thread>, state: &mut ClientState) {
    let mut rounds = state.backlog.len();
    while rounds > 0 {
        let Some(call) = state.backlog.pop_front() else {
            break;
        };
        let order = call.order();
        match find(state, call.lane) {
            Some(at) => state.lanes[at].insert(call),
            None => forward(thread, state, call),
        }
        // A full window puts the call last: turn it back to the front and stop.
        if state
            .backlog
            .back()
            .is_some_and(|last| last.order() == order)
        {
            if let Some(call) = state.backlog.pop_back() {
                state.backlog.push_front(call);
            }
            break;
        }
        rounds -= 1;
    }
}

fn forward(thread: &Rc<Thread>, state: &mut ClientState, call: Call) {
    let why = match thread.target(call.lane) {
        Some(to) if to.link.is_up() => {
            let left = thread.max_pause_ms().clamp(1, u64::from(u32::MAX)) as u32;
            let sent = to
                .link
                .send(&mut state.sessions, call, to.group, to.epoch, false, left);
            if let Sent::WindowFull(call) = sent {
                state.backlog.push_back(call);
            }
            return;
        }
        Some(to) => Why::NodeDown(to.link.address.clone()),
        None => Why::NoRoute,
    };
    park(thread, state, call, why);
}

/// Takes a part of a reply, and not the last.
pub(super) fn on_part(link: &Rc<Link>, reply: &Reply<'_>) -> Result<(), LinkError> {
    let (client, seq) = match link.inner.borrow().calls.get(reply.request) {
        Some(call) if call.flags.has(RequestFlags::PIECES) => (call.client.clone(), call.seq),
        _ => return Err(LinkError::Unexpected("a part of a reply to no request")),
    };
    let Some(thread) = link.thread.upgrade() else {
        return Ok(());
    };
    let mut state = client.state.borrow_mut();
    if !state.closed {
        let part = Lent::from(&reply.payload);
        state.part(link, reply.request, seq, part, thread.turn_us());
    }
    drop(state);
    thread.mark_dirty(client);
    Ok(())
}

/// Ends the connection of a client that was shown part of a reply which will have
/// no rest.
fn cut_short(thread: &Thread, client: &Client, node: &str, why: &[u8]) {
    let why = String::from_utf8_lossy(why.trim_ascii_end());
    tracing::warn!(client = client.id, node, %why, "closed in the middle of a large reply");
    thread.shared.cut_short.fetch_add(1, Relaxed);
    client.cut_short();
}

/// Takes the answer of a node to `call`.
pub(super) fn on_reply(
    link: &Rc<Link>,
    mut call: Call,
    reply: &Reply<'_>,
) -> Result<(), LinkError> {
    let Some(thread) = link.thread.upgrade() else {
        return Ok(());
    };
    let client = call.client.clone();
    let mut state = client.state.borrow_mut();
    link.release(&mut state.sessions, call.wire.len());
    if state.closed {
        return Ok(());
    }
    if call.blocking {
        // The time that it waited for its keys is not time in search of a way.
        call.born_ms = thread.now_ms();
        client.end_waiting();
    }
    if reply.class != ReplyClass::Ok {
        // So long it was being answered, or was behind what was.
        match state.give_up_pieces(call.seq) {
            GivenUp::Begun => {
                drop(state);
                cut_short(&thread, &client, link.address(), &reply.payload);
                return Ok(());
            }
            GivenUp::Held => call.born_ms = thread.now_ms(),
            GivenUp::Nothing => call.born_ms = call.born_ms.max(state.pieces_over_ms),
        }
    }
    if reply.class == ReplyClass::Ok
        && let Some(slot) = next_slot(&thread, &mut call, &reply.payload)
    {
        if !state.lanes.is_empty() {
            settle(&thread, &mut state, &call, true);
        }
        call.lane = Lane::slot(slot);
        call.flags = call.flags.without(RequestFlags::ASKING);
        state.turn_to(call.seq, call.lane);
        submit(&thread, &mut state, call);
        return Ok(());
    }
    match reply.class {
        ReplyClass::Ok => {
            if call.flags.has(RequestFlags::TRACK) {
                state.tracking.iter_mut().for_each(|t| t.was_served());
            }
            if call.flags.has(RequestFlags::PIECES) && state.is_in_pieces(call.seq) {
                state.pieces_over_ms = thread.now_ms();
            }
            complete(&thread, &mut state, &call, &reply.payload);
            if !state.lanes.is_empty() {
                settle(&thread, &mut state, &call, true);
            }
        }
        ReplyClass::Moved => {
            let moved = reply.moved()?;
            let at = refused(&thread, &mut state, &call);
            let why = follow(&thread, &mut state.lanes[at], link, &moved);
            hold(&thread, &mut state, at, call, why);
        }
        ReplyClass::Unknown if !may_repeat(&state, &call) => {
            complete(&thread, &mut state, &call, &reply.payload);
            settle(&thread, &mut state, &call, false);
        }
        // `More` is no answer, and does not come here.
        ReplyClass::NotExecuted | ReplyClass::Unknown | ReplyClass::More => {
            let at = refused(&thread, &mut state, &call);
            hold(
                &thread,
                &mut state,
                at,
                call,
                Why::Refused(reply.payload.share()),
            );
        }
    }
    if !state.backlog.is_empty() {
        drain_backlog(&thread, &mut state);
    }
    drop(state);
    thread.mark_dirty(client);
    Ok(())
}

/// The slot in which a call goes on. Its client has nothing else under way.
fn next_slot(thread: &Rc<Thread>, call: &mut Call, reply: &[u8]) -> Option<u16> {
    if std::mem::take(&mut call.roams) {
        return elsewhere(reply);
    }
    let scan = call.scan.as_mut()?;
    let slot = scan.next_slot(reply)?;
    let lane = Lane::slot(slot);
    let owner = |lane| thread.routes.borrow().owner(lane).group;
    // Nobody is asked twice, waited for, or kept waiting for the sake of a longer page.
    let is_open = owner(lane) != owner(call.lane)
        && thread.target(lane).is_some_and(|to| to.link.is_up())
        && thread.now_ms().saturating_sub(call.born_ms) < SCAN_MS;
    if !is_open {
        return None;
    }
    call.wire = scan.go_on(reply, call.wire.clone())?;
    Some(slot)
}

/// The slot in which a script has to be run that was not executed, because
/// another group has the first key that it uses.
fn elsewhere(reply: &[u8]) -> Option<u16> {
    let words = reply.strip_prefix(b"-")?.strip_suffix(b"\r\n")?;
    let slot = words.strip_prefix(ELSEWHERE.as_bytes())?.trim_ascii();
    let slot = u16::try_from(parse_u64(slot)?).ok()?;
    (usize::from(slot) < SLOTS).then_some(slot)
}

/// Gives a call its answer; what its command took is known then.
fn complete<'a>(thread: &Thread, state: &mut ClientState, call: &Call, reply: impl Into<Lent<'a>>) {
    let reply = reply.into();
    let scan = call.scan.as_ref();
    let done = match scan.and_then(|scan| scan.joined(reply.as_slice())) {
        Some(page) => state.complete_owned(call.seq, call.part, page),
        None => state.complete(call.seq, call.part, reply),
    };
    if let Some(done) = done {
        let whole = scan.and_then(|scan| scan.whole());
        timing::finished(thread, &call.client.info, done, whole.unwrap_or(&call.wire));
    }
    if state.ends_wait_for_replicas() {
        call.client.info.end_waiting();
    }
}

/// A read whose answer got lost may be asked again, unless a write that came
/// after it in its lane may have been executed meanwhile.
fn may_repeat(state: &ClientState, call: &Call) -> bool {
    !call.write && !state.has_later_write(call.lane, call.seq)
}

/// Learns from a redirect; says why the call must wait.
fn follow(thread: &Rc<Thread>, lane: &mut ParkedLane, link: &Link, moved: &Moved<'_>) -> Why {
    match moved.reason {
        Reason::Fenced => return Why::Behind,
        Reason::Frozen => return Why::Frozen,
        Reason::Ask if moved.address.is_empty() => return Why::Frozen,
        Reason::Ask => {
            lane.ask = Some(Rc::from(moved.address));
            lane.new_way = true;
            return Why::Moved;
        }
        Reason::NotLeader => {
            let mut routes = thread.routes.borrow_mut();
            let group = routes.owner(lane.lane).group;
            if !moved.address.is_empty() && (moved.group == group || moved.group == 0) {
                routes.learn_leader(group, moved.address);
            }
        }
        Reason::Moved => {
            let mut routes = thread.routes.borrow_mut();
            if let Some(slot) = lane.lane.as_slot() {
                routes.learn_owner(
                    slot,
                    Owner {
                        group: moved.group,
                        epoch: moved.epoch,
                    },
                );
            }
            if moved.group != 0 && !moved.address.is_empty() {
                routes.learn_leader(moved.group, moved.address);
            }
        }
    }
    let target = thread.target(lane.lane);
    lane.new_way |= target.is_some_and(|to| to.link.address != link.address);
    Why::Moved
}

/// Parks a call that could not be sent.
fn park(thread: &Rc<Thread>, state: &mut ClientState, call: Call, why: Why) {
    let at = find_or_park(thread, state, &call);
    hold(thread, state, at, call, why);
}

/// A call that was in flight was not executed: index of its parked lane.
fn refused(thread: &Rc<Thread>, state: &mut ClientState, call: &Call) -> usize {
    match find(state, call.lane) {
        Some(at) => {
            state.lanes[at].answered(call.order());
            at
        }
        None => find_or_park(thread, state, call),
    }
}

/// Keeps a call in its parked lane until the lane is tried again.
fn hold(thread: &Rc<Thread>, state: &mut ClientState, at: usize, call: Call, why: Why) {
    let lane = &mut state.lanes[at];
    lane.insert(call);
    if why != Why::Behind || lane.why == Why::Behind {
        lane.why = why;
    }
    if lane.is_idle() {
        let now = thread.now_ms();
        lane.schedule(now);
        if lane.retry_at <= now {
            probe(thread, state, at, now);
        }
    }
}

/// Index of the parked lane of `call`, made if there is none. A new one counts
/// as in flight all unanswered calls of the lane but this one and those that
/// were never sent.
fn find_or_park(thread: &Rc<Thread>, state: &mut ClientState, call: &Call) -> usize {
    if let Some(at) = find(state, call.lane) {
        return at;
    }
    let (mine, others) = std::mem::take(&mut state.backlog)
        .into_iter()
        .partition::<VecDeque<_>, _>(|waiting| waiting.lane == call.lane);
    state.backlog = others;
    let unsent = mine.len() as u32 + 1;
    let in_flight = state.unanswered(call.lane).saturating_sub(unsent);
    let mut parked = ParkedLane::new(call.lane, in_flight);
    mine.into_iter().for_each(|waiting| parked.insert(waiting));
    state.lanes.push(parked);
    thread.watch_parked(&call.client);
    state.lanes.len() - 1
}

fn find(state: &ClientState, lane: Lane) -> Option<usize> {
    state.lanes.iter().position(|parked| parked.lane == lane)
}

/// Book-keeping after a call of a lane that may be parked got its answer.
fn settle(thread: &Rc<Thread>, state: &mut ClientState, call: &Call, executed: bool) {
    let Some(at) = find(state, call.lane) else {
        return;
    };
    let lane = &mut state.lanes[at];
    let was_probe = lane.answered(call.order());
    // The way must be open for all of them at once: a call that is parked
    // again would find the others neither in flight nor parked.
    if was_probe && executed && thread.target(call.lane).is_some_and(|to| to.link.is_up()) {
        let parked = state.lanes.swap_remove(at);
        parked
            .calls
            .into_iter()
            .for_each(|call| submit(thread, state, call));
    } else if lane.is_idle() {
        let now = thread.now_ms();
        lane.retry_at = now;
        probe(thread, state, at, now);
    }
}

/// Sends the oldest call of a parked lane, to see whether the way is free.
fn probe(thread: &Rc<Thread>, state: &mut ClientState, at: usize, now: u64) {
    let lane = &mut state.lanes[at];
    let Some(call) = lane.calls.pop_front() else {
        state.lanes.swap_remove(at);
        return;
    };
    let order = call.order();
    let asked = lane.ask.take();
    let target = match &asked {
        Some(address) => thread.target_at(call.lane, address),
        None => thread.target(call.lane),
    };
    let outcome = match target {
        Some(to) if to.link.is_up() => {
            let mut call = call;
            let asking = RequestFlags::ASKING;
            call.flags = match asked {
                Some(_) => call.flags.with(asking),
                None => call.flags.without(asking),
            };
            let left = thread.deadline_ms(call.born_ms);
            match to
                .link
                .send(&mut state.sessions, call, to.group, to.epoch, true, left)
            {
                Sent::Yes => Ok(()),
                Sent::WindowFull(call) => Err((call, None)),
            }
        }
        Some(to) => Err((call, Some(Why::NodeDown(to.link.address.clone())))),
        None => Err((call, Some(Why::NoRoute))),
    };
    let lane = &mut state.lanes[at];
    match outcome {
        Ok(()) => {
            lane.in_flight += 1;
            lane.probe = Some(order);
        }
        Err((call, why)) => {
            lane.calls.push_front(call);
            lane.why = why.unwrap_or(lane.why.clone());
            lane.ask = asked;
            lane.schedule(now);
        }
    }
}

/// Tries what is due, and ends what waited for too long.
fn run_client(thread: &Rc<Thread>, client: &Rc<Client>, now: u64) {
    let mut state = client.state.borrow_mut();
    for at in (0..state.lanes.len()).rev() {
        expire(thread, &mut state, at, now);
        let lane = &state.lanes[at];
        if lane.is_idle() && (lane.retry_at <= now || lane.calls.is_empty()) {
            probe(thread, &mut state, at, now);
        }
    }
    drop(state);
    thread.mark_dirty(client.clone());
}

fn expire(thread: &Thread, state: &mut ClientState, at: usize, now: u64) {
    let bound = thread.max_pause_ms();
    let lane = &mut state.lanes[at];
    let mut ended = Vec::new();
    while lane
        .calls
        .front()
        .is_some_and(|call| now.saturating_sub(call.born_ms) >= bound)
    {
        ended.extend(lane.calls.pop_front());
    }
    if ended.is_empty() {
        return;
    }
    let line = given_up(lane, bound);
    for call in ended {
        complete(thread, state, &call, &line[..]);
    }
}

/// The error of a command that waited for `bound` ms in vain.
fn given_up(lane: &ParkedLane, bound: u64) -> Bytes {
    let at = lane.lane;
    let waited = format!("not executed after {bound} ms");
    let line = match &lane.why {
        Why::NoRoute => {
            format!("-CLUSTERDOWN Hash slot not served: no group leads {at}; {waited}\r\n")
        }
        Why::NodeDown(node) => {
            format!("-CLUSTERDOWN node {node} that serves {at} cannot be reached; {waited}\r\n")
        }
        Why::Frozen => format!("-TRYAGAIN {at} is being moved; {waited}\r\n"),
        Why::Moved | Why::Behind => format!("-TRYAGAIN {at} was found nowhere; {waited}\r\n"),
        Why::Refused(line) => return line.clone(),
    };
    Bytes::from(line)
}

/// Something changed (a new map, a link that came up): tries all that waits.
pub(crate) fn kick(thread: &Rc<Thread>) {
    for client in thread.parked_clients() {
        let mut state = client.state.borrow_mut();
        for lane in state.lanes.iter_mut() {
            lane.retry_at = 0;
            lane.redirects = 0;
        }
    }
    run_parked(thread);
}

/// One turn over all clients with parked lanes.
pub(crate) fn run_parked(thread: &Rc<Thread>) {
    thread.begin_turn(Instant::now());
    let now = thread.now_ms();
    for client in thread.parked_clients() {
        run_client(thread, &client, now);
    }
    thread.forget_unparked();
    thread.flush_dirty();
}

/// Decides the fate of everything that was outstanding on a broken link:
/// `written` bytes of its stream had been handed to the kernel.
pub(super) fn link_broke(thread: &Rc<Thread>, node: &str, mut calls: Vec<Call>, written: u64) {
    thread.begin_turn(Instant::now());
    calls.sort_by_key(|call| (call.client.id, call.order()));
    let repeat = repeatable(&calls, written);
    for (mut call, repeat) in calls.into_iter().zip(repeat) {
        let client = call.client.clone();
        client.end_waiting();
        let mut state = client.state.borrow_mut();
        if state.closed {
            continue;
        }
        match state.give_up_pieces(call.seq) {
            GivenUp::Begun => {
                drop(state);
                cut_short(
                    thread,
                    &client,
                    node,
                    b"the connection to the node was lost",
                );
                continue;
            }
            GivenUp::Held => call.born_ms = thread.now_ms(),
            GivenUp::Nothing => {}
        }
        if repeat {
            let at = refused(thread, &mut state, &call);
            hold(thread, &mut state, at, call, Why::Moved);
        } else {
            complete(thread, &mut state, &call, LOST);
            settle(thread, &mut state, &call, false);
        }
        drop(state);
        thread.mark_dirty(client);
    }
}

/// Which calls of a broken link may be sent again: those of which no byte was
/// written, and reads with no possibly executed write behind them in their
/// lane.
fn repeatable(calls: &[Call], written: u64) -> Vec<bool> {
    let mut overwritten = HashSet::new();
    let mut repeat: Vec<bool> = calls
        .iter()
        .rev()
        .map(|call| {
            let lane = (call.client.id, call.lane);
            if call.offset >= written {
                return true;
            }
            if call.write {
                overwritten.insert(lane);
            }
            !call.write && !overwritten.contains(&lane)
        })
        .collect();
    repeat.reverse();
    repeat
}
