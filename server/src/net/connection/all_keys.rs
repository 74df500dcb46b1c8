//! Commands about all keys, on a node with several groups or none.
//!
//! A group knows its own keys alone. A proxy asks each group by itself and makes one
//! reply of theirs (`cairn_protocol::command::Merge`); for a direct client its connection
//! does so, one group after the other. The command counts, and is shown, once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use cairn_protocol::command::{CommandSpec, Merge, Routing, id, routing};
use cairn_protocol::resp::ReplyWriter;
use cairn_protocol::resp::number::parse_i64;
use cairn_protocol::slot::CURSOR_POSITION_BITS;

use super::submit::{NOT_EXECUTED, UNKNOWN};
use super::{Connection, End, Pace};
use crate::cluster::Node;
use crate::commands::{Handler, key_count, scan_slot, scan_until_gap};
use crate::dispatch::Dispatched;
use crate::group::Group;
use crate::server::Home;

/// How a command about all keys is answered.
pub(super) struct OverGroups {
    merge: Merge,
    node: Arc<Node>,
}

impl Connection {
    /// Whether, and how, a command is answered by more than one group.
    pub(super) fn over_groups(&self, d: &Dispatched) -> Option<OverGroups> {
        let (Home::Node(node), None) = (&self.session.server.home, d.slot) else {
            return None;
        };
        let Routing::AllGroups(merge) = routing(d.spec) else {
            return None;
        };
        node.has_several_groups().then(|| OverGroups {
            merge,
            node: node.clone(),
        })
    }

    /// Answers such a command.
    pub(super) async fn run_over_groups(
        &mut self,
        request: usize,
        d: Dispatched,
        over: OverGroups,
    ) -> Result<(), End> {
        self.submit().await?;
        self.flush_or_keep().await?;
        let groups = self.session.server.groups();
        // A part would look like all.
        if groups.len() < over.node.placed() || !groups.iter().all(|group| group.is_ready()) {
            return self.answer_error(NOT_EXECUTED.as_bytes()).await;
        }
        let started = Instant::now();
        let mut reply = match over.merge {
            Merge::Cursor => self.scan_groups(request, d, &over.node, groups).await?,
            Merge::PickOne => self.pick_from_groups(request, d, groups).await?,
            merge => self.join_groups(request, d, merge, groups).await?,
        };
        let failed = is_error(&reply);
        self.out.append(&mut reply);
        let nanos = started.elapsed().as_nanos() as u64;
        self.account(request, d, nanos, failed);
        self.pace = Pace::default();
        Ok(())
    }

    /// What all groups answer, as one reply; an error of one is the reply.
    async fn join_groups(
        &mut self,
        request: usize,
        d: Dispatched,
        merge: Merge,
        groups: Vec<Arc<Group>>,
    ) -> Result<ReplyWriter, End> {
        let mut parts: Vec<ReplyWriter> = Vec::with_capacity(groups.len());
        for group in groups {
            let mut part = self.ask_group(request, d, group).await?;
            if is_error(&part) {
                if !d.spec.is_readonly() && !parts.is_empty() {
                    // Others have done it already.
                    part.clear();
                    part.error(UNKNOWN);
                }
                return Ok(part);
            }
            parts.push(part);
        }
        let mut joined = ReplyWriter::new(self.session.version);
        match merge {
            Merge::Sum => joined.integer(parts.iter_mut().map(take_number).sum()),
            Merge::Concat => {
                let elements: i64 = parts.iter_mut().map(take_number).sum();
                joined.array(elements as usize);
                parts.iter_mut().for_each(|part| joined.append(part));
            }
            // All have done the same.
            _ => joined.append(&mut parts[0]),
        }
        Ok(joined)
    }

    /// RANDOMKEY: groups are tried in random order by their share of the keys
    /// (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
    async fn pick_from_groups(
        &mut self,
        request: usize,
        d: Dispatched,
        groups: Vec<Arc<Group>>,
    ) -> Result<ReplyWriter, End> {
        let db = self.session.db;
        let weighted = |group: Arc<Group>| {
            let keys = key_count(&group, db) as f64;
            (rand::random::<f64>().ln() / keys, group)
        };
        let mut order: Vec<(f64, Arc<Group>)> = groups.into_iter().map(weighted).collect();
        order.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut nil = ReplyWriter::new(self.session.version);
        nil.null();
        for (_, group) in order {
            let reply = self.ask_group(request, d, group).await?;
            if reply.to_vec() != nil.to_vec() {
                return Ok(reply);
            }
        }
        Ok(nil)
    }

    /// SCAN goes through the slots in their order, whichever group holds them.
    async fn scan_groups(
        &mut self,
        request: usize,
        mut d: Dispatched,
        node: &Node,
        mut groups: Vec<Arc<Group>>,
    ) -> Result<ReplyWriter, End> {
        let Some(slot) = scan_slot(&self.requests.get(request)) else {
            // Any group says what is wrong with it.
            return self.ask_group(request, d, groups.swap_remove(0)).await;
        };
        let next = match node.next_held(slot) {
            Some((held, hosted)) if held == slot => {
                d.handler = Handler::Read(scan_until_gap);
                return self.ask_group(request, d, hosted.group.clone()).await;
            }
            Some((held, _)) => u64::from(held) << CURSOR_POSITION_BITS,
            None => 0,
        };
        let mut page = ReplyWriter::new(self.session.version);
        page.array(2);
        page.bulk(next.to_string().as_bytes());
        page.array(0);
        Ok(page)
    }

    /// What one group answers. Nothing is pending.
    async fn ask_group(
        &mut self,
        request: usize,
        d: Dispatched,
        group: Arc<Group>,
    ) -> Result<ReplyWriter, End> {
        let fresh = ReplyWriter::new(self.session.version);
        let before = std::mem::replace(&mut self.out, fresh);
        self.is_part = true;
        let group = Rc::new(group);
        match d.handler {
            Handler::Read(handler) => self.read_one(request, d, handler, group).await?,
            Handler::Write(handler) => self.enqueue(request, d, handler, group, false),
            Handler::Session(_) => unreachable!("what is about keys is a data command"),
        }
        self.submit().await?;
        self.is_part = false;
        Ok(std::mem::replace(&mut self.out, before))
    }
}

fn is_error(reply: &ReplyWriter) -> bool {
    reply.segments().next().is_some_and(|s| s.starts_with(b"-"))
}

/// Takes the first line off a reply: an integer, or the length of an array.
fn take_number(reply: &mut ReplyWriter) -> i64 {
    let front = reply.segments().next().unwrap_or_default();
    let end = front.iter().position(|byte| *byte == b'\r');
    let end = end.expect("a whole reply of our own");
    let number = parse_i64(&front[1..end]).expect("a number of our own");
    reply.advance(end + 2);
    number
}

/// What a node without a group answers of all its keys: that there are none, as a
/// master without slots does. `redis-cli --cluster info` and cluster clients ask every
/// node, and give up at an error.
pub(super) fn without_keys(spec: &CommandSpec) -> Option<fn(&mut ReplyWriter)> {
    let answer: fn(&mut ReplyWriter) = match spec.id {
        id::DBSIZE => |out| out.integer(0),
        id::KEYS => |out| out.array(0),
        id::RANDOMKEY => |out| out.null(),
        id::SCAN => |out| {
            out.array(2);
            out.bulk(b"0");
            out.array(0);
        },
        id::FLUSHALL | id::FLUSHDB => |out| out.ok(),
        _ => return None,
    };
    Some(answer)
}
