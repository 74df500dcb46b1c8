//! Cuts a command of many keys into one command per slot.

use bytes::{Bytes, BytesMut};
use cairn_protocol::command::CommandSpec;
use cairn_protocol::resp::{Args, encode_request};
use cairn_protocol::slot::key_slot;
use std::collections::HashMap;

/// One command of the cut.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Slot of all its keys.
    pub slot: u16,
    /// The command, as RESP.
    pub wire: Bytes,
}

/// The parts of a command whose keys are every `step`-th argument from the
/// first on, with what stands between them; and for each key, its part. Keys
/// of one slot keep their order.
pub(crate) fn split(spec: &CommandSpec, args: Args<'_>) -> (Vec<Part>, Vec<u32>) {
    let step = spec.step.max(1) as usize;
    let name = args.get(0);
    let mut by_slot: HashMap<u16, u32> = HashMap::new();
    let mut slots: Vec<(u16, Vec<usize>)> = Vec::new();
    let mut owners = Vec::with_capacity(args.len() / step);
    for key in (1..args.len()).step_by(step) {
        let slot = key_slot(args.get(key));
        let part = *by_slot.entry(slot).or_insert_with(|| {
            slots.push((slot, Vec::new()));
            slots.len() as u32 - 1
        });
        slots[part as usize].1.push(key);
        owners.push(part);
    }
    (encode(name, step, args, slots), owners)
}

fn encode(name: &[u8], step: usize, args: Args<'_>, slots: Vec<(u16, Vec<usize>)>) -> Vec<Part> {
    let mut buffer = BytesMut::with_capacity(args.payload_len() + args.len() * 32);
    let mut argv: Vec<&[u8]> = Vec::new();
    let mut part = |(slot, keys): (u16, Vec<usize>)| {
        argv.clear();
        argv.push(name);
        for key in keys {
            argv.extend((key..key + step).filter_map(|at| args.try_get(at)));
        }
        encode_request(&mut buffer, argv.iter().copied());
        Part {
            slot,
            wire: buffer.split().freeze(),
        }
    };
    slots.into_iter().map(&mut part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_protocol::command::lookup;
    use cairn_protocol::resp::Requests;

    fn cut(args: &[&str]) -> (Vec<Part>, Vec<u32>) {
        let mut requests = Requests::default();
        requests.push_owned(args);
        split(lookup(args[0].as_bytes()).unwrap(), requests.get(0))
    }

    #[test]
    fn keys_of_one_slot_stay_together_in_order() {
        let (parts, owners) = cut(&["MGET", "{a}1", "b", "{a}2", "b"]);
        assert_eq!(owners, [0, 1, 0, 1]);
        assert_eq!(parts[0].slot, key_slot(b"a"));
        assert_eq!(
            &parts[0].wire[..],
            b"*3\r\n$4\r\nMGET\r\n$4\r\n{a}1\r\n$4\r\n{a}2\r\n"
        );
        assert_eq!(
            &parts[1].wire[..],
            b"*3\r\n$4\r\nMGET\r\n$1\r\nb\r\n$1\r\nb\r\n"
        );
    }

    #[test]
    fn values_go_with_their_keys() {
        let (parts, owners) = cut(&["mset", "a", "1", "b", "2"]);
        assert_eq!(owners, [0, 1]);
        assert_eq!(
            &parts[1].wire[..],
            b"*3\r\n$4\r\nmset\r\n$1\r\nb\r\n$1\r\n2\r\n"
        );
    }
}
