//! One reply out of many: commands that are cut by slot or sent to all groups.
//!
//! `split` cuts a command, `join` puts replies together; a [`Merge`] holds the
//! replies of one command until the last has come. Pure: no sockets, no
//! routes.

mod info;
mod join;
mod scan;
mod split;

pub(crate) use info::InfoMerge;
pub(crate) use join::{is_executed, splice};
pub(crate) use scan::Scan;
pub(crate) use split::split;

use crate::route::Lane;
use bytes::Bytes;
use cairn_protocol::command;

/// How the replies become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Join {
    /// Array elements in the order of the keys; `owners` tells whose each is.
    InKeyOrder,
    /// The sum of the integers.
    Sum,
    /// The least of the integers.
    Least,
    /// The elements of all arrays.
    Concat,
    /// The first error if there is one, else the first reply.
    Same,
    /// Element by element, 1 where any says 1.
    AnyOne,
    /// The first that is no error, else the first error.
    AnyOk,
    /// One of those that are not nil, by chance.
    PickOne,
    /// This, whatever they say.
    Own(Bytes),
    /// The first, whatever the others say.
    First,
    /// The exclusive or of the hexadecimal numbers.
    Xor,
    /// These entries of ACL LOG and those of all, so many of the latest.
    AclLog(Bytes, usize),
    /// The pairs of the first, and these in place of those of the same name.
    Config(Vec<(String, String)>),
    /// The fields of all, summed where that makes sense.
    Info(Box<InfoMerge>),
}

/// The reply where there is no node to ask.
pub(crate) fn of_nobody(how: &Join) -> Bytes {
    match how {
        Join::Own(_) | Join::Info(_) | Join::AclLog(..) => join::join(how, &[], &[]),
        _ => Bytes::from_static(b"-CLUSTERDOWN no node is known\r\n"),
    }
}

impl From<command::Merge> for Join {
    fn from(over: command::Merge) -> Self {
        match over {
            command::Merge::Sum => Self::Sum,
            command::Merge::Least => Self::Least,
            command::Merge::Concat => Self::Concat,
            command::Merge::Same | command::Merge::Cursor => Self::Same,
            command::Merge::AnyOne => Self::AnyOne,
            command::Merge::AnyOk => Self::AnyOk,
            command::Merge::PickOne => Self::PickOne,
        }
    }
}

impl From<command::Split> for Join {
    fn from(split: command::Split) -> Self {
        match split {
            command::Split::InKeyOrder => Self::InKeyOrder,
            command::Split::Sum => Self::Sum,
            command::Split::AllOk => Self::Same,
        }
    }
}

/// A command of which several calls are out.
#[derive(Debug)]
pub(crate) struct Merge {
    join: Join,
    write: bool,
    parts: Vec<(Lane, Option<Bytes>)>,
    /// Part of each key, for [`Join::InKeyOrder`].
    owners: Vec<u32>,
    waiting: usize,
    /// Of a transaction: replies of the proxy's own, by place.
    own: Vec<(usize, Bytes)>,
    /// The command as it came.
    whole: Option<Bytes>,
}

impl Merge {
    /// A merge of the calls in `lanes`, in the order of their part numbers.
    pub fn new(join: Join, write: bool, lanes: Vec<Lane>, owners: Vec<u32>) -> Self {
        let waiting = lanes.len();
        let parts = lanes.into_iter().map(|lane| (lane, None)).collect();
        Self {
            join,
            write,
            parts,
            owners,
            waiting,
            own: Vec::new(),
            whole: None,
        }
    }

    /// The same, of a command that came as these bytes.
    pub fn of(mut self, whole: Option<Bytes>) -> Self {
        self.whole = whole;
        self
    }

    pub fn take_whole(&mut self) -> Option<Bytes> {
        self.whole.take()
    }

    /// The one call of a transaction, into whose reply these are put.
    pub fn transaction(lane: Lane, write: bool, own: Vec<(usize, Bytes)>) -> Self {
        let mut merge = Self::new(Join::Same, write, vec![lane], Vec::new());
        merge.own = own;
        merge
    }

    /// Takes the reply of a part; the whole reply, once it was the last.
    pub fn part_done(&mut self, part: u32, reply: Bytes) -> Option<Bytes> {
        let place = &mut self.parts.get_mut(part as usize)?.1;
        if place.replace(reply).is_none() {
            self.waiting -= 1;
        }
        (self.waiting == 0).then(|| self.join())
    }

    /// Calls of a lane that are not answered.
    pub fn unanswered(&self, lane: Lane) -> u32 {
        self.parts
            .iter()
            .filter(|(its, reply)| *its == lane && reply.is_none())
            .count() as u32
    }

    pub fn is_write(&self) -> bool {
        self.write
    }

    fn join(&mut self) -> Bytes {
        let replies: Vec<Bytes> = self
            .parts
            .drain(..)
            .filter_map(|(_, reply)| reply)
            .collect();
        let joined = join::join(&self.join, &replies, &self.owners);
        match self.own.is_empty() {
            true => joined,
            false => join::splice(joined, &self.own),
        }
    }
}
