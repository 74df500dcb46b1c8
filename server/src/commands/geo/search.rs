//! Searches for positions: GEOSEARCH, and GEORADIUS, its old form.

use std::ops::ControlFlow;

use cairn_protocol::resp::{Args, ReplyWriter};

use super::geohash::{Point, Reach, Shape};
use super::{Done, distance_text, point, position, unit, write_point};
use crate::commands::arguments::{integer, is};
use crate::commands::sorted_sets::{float, open, store};
use crate::txn::{CommandError, Txn};
use crate::types::sorted_set::place::{ScoreBound, score_span};
use crate::types::sorted_set::{Item, SortedSet, sort};

const NO_MEMBER: CommandError = CommandError::fixed("ERR could not decode requested zset member");

/// GEORADIUS key longitude latitude radius M | KM | FT | MI [WITHCOORD] [WITHDIST] [WITHHASH]
///   [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]
pub(super) fn georadius(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    search(txn, args, Form::Radius { may_store: true }, out)
}

/// GEORADIUS_RO: GEORADIUS without STORE and STOREDIST.
pub(super) fn georadius_ro(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    search(txn, args, Form::Radius { may_store: false }, out)
}

/// GEORADIUSBYMEMBER key member radius M | KM | FT | MI [WITHCOORD] [WITHDIST] [WITHHASH]
///   [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]
pub(super) fn georadiusbymember(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    search(txn, args, Form::ByMember { may_store: true }, out)
}

/// GEORADIUSBYMEMBER_RO: GEORADIUSBYMEMBER without STORE and STOREDIST.
pub(super) fn georadiusbymember_ro(
    txn: &mut Txn<'_>,
    args: &Args<'_>,
    out: &mut ReplyWriter,
) -> Done {
    search(txn, args, Form::ByMember { may_store: false }, out)
}

/// GEOSEARCH key FROMMEMBER member | FROMLONLAT longitude latitude
///   BYRADIUS radius unit | BYBOX width height unit [ASC | DESC] [COUNT count [ANY]]
///   [WITHCOORD] [WITHDIST] [WITHHASH]
pub(super) fn geosearch(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    search(txn, args, Form::Search, out)
}

/// GEOSEARCHSTORE destination source (as GEOSEARCH) [STOREDIST]
pub(super) fn geosearchstore(txn: &mut Txn<'_>, args: &Args<'_>, out: &mut ReplyWriter) -> Done {
    search(txn, args, Form::SearchStore, out)
}

/// Which of the commands it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Radius { may_store: bool },
    ByMember { may_store: bool },
    Search,
    SearchStore,
}

impl Form {
    fn is_search(self) -> bool {
        matches!(self, Form::Search | Form::SearchStore)
    }

    fn may_store(self) -> bool {
        matches!(
            self,
            Form::Radius { may_store: true } | Form::ByMember { may_store: true }
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

/// What is searched, in the client's unit.
#[derive(Clone, Copy)]
enum Area {
    Radius(f64),
    Box(f64, f64),
}

/// The arguments of a search.
struct Query<'a> {
    form: Form,
    centre: Option<Point>,
    area: Option<Area>,
    /// Length of the client's unit in m.
    unit: f64,
    with_distance: bool,
    with_hash: bool,
    with_point: bool,
    order: Option<Order>,
    /// 0: all.
    count: u64,
    any: bool,
    store: Option<&'a [u8]>,
    store_distance: bool,
}

/// One position that was found.
struct Hit {
    item: Item,
    point: Point,
    /// In m.
    distance: f64,
}

fn search(txn: &mut Txn<'_>, args: &Args<'_>, form: Form, out: &mut ReplyWriter) -> Done {
    let source = if form == Form::SearchStore { 2 } else { 1 };
    let set = open(txn, args.get(source))?;
    let query = Query::read(txn, args, form, set.as_ref())?;
    let hits = match &set {
        Some(set) => query.hits(txn, set)?,
        None => Vec::new(),
    };
    match query.store {
        Some(name) => query.store_hits(txn, name, hits, out),
        None => {
            query.write(&hits, out);
            Ok(())
        }
    }
}

impl<'a> Query<'a> {
    /// Reads the arguments. Without a set nothing is looked up in it, but the
    /// arguments are judged all the same.
    fn read(
        txn: &mut Txn<'_>,
        args: &Args<'a>,
        form: Form,
        set: Option<&SortedSet>,
    ) -> Result<Query<'a>, CommandError> {
        let mut query = Query {
            form,
            centre: None,
            area: None,
            unit: 1.0,
            with_distance: false,
            with_hash: false,
            with_point: false,
            order: None,
            count: 0,
            any: false,
            store: None,
            store_distance: false,
        };
        let first = match form {
            Form::Radius { .. } => {
                query.centre = Some(point(args, 2)?);
                query.read_radius(args, 4)?;
                6
            }
            Form::ByMember { .. } => {
                if let Some(set) = set {
                    let centre = position(txn, set, args.get(2))?;
                    query.centre = Some(centre.ok_or(NO_MEMBER)?);
                    query.read_radius(args, 3)?;
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => {
                query.store = Some(args.get(1));
                3
            }
        };
        let mut at = first;
        let (mut from_member, mut from_point) = (false, false);
        while let Some(word) = args.try_get(at) {
            let left = args.len() - at - 1;
            let searches = form.is_search();
            at += match word {
                _ if query.read_flag(word) => 1,
                _ if left >= 1 && is(word, "COUNT") => {
                    let count = integer(args.get(at + 1))?;
                    query.count = u64::try_from(count)
                        .ok()
                        .filter(|n| *n > 0)
                        .ok_or(CommandError::fixed("ERR COUNT must be > 0"))?;
                    2
                }
                _ if left >= 1
                    && form.may_store()
                    && (is(word, "STORE") || is(word, "STOREDIST")) =>
                {
                    query.store = Some(args.get(at + 1));
                    query.store_distance = is(word, "STOREDIST");
                    2
                }
                _ if form == Form::SearchStore && is(word, "STOREDIST") => {
                    query.store_distance = true;
                    1
                }
                _ if left >= 1 && searches && !from_point && is(word, "FROMMEMBER") => {
                    if let Some(set) = set {
                        let centre = position(txn, set, args.get(at + 1))?;
                        query.centre = Some(centre.ok_or(NO_MEMBER)?);
                    }
                    from_member = true;
                    2
                }
                _ if left >= 2 && searches && !from_member && is(word, "FROMLONLAT") => {
                    query.centre = Some(point(args, at + 1)?);
                    from_point = true;
                    3
                }
                _ if left >= 2
                    && searches
                    && !matches!(query.area, Some(Area::Box(..)))
                    && is(word, "BYRADIUS") =>
                {
                    query.read_radius(args, at + 1)?;
                    3
                }
                _ if left >= 3
                    && searches
                    && !matches!(query.area, Some(Area::Radius(_)))
                    && is(word, "BYBOX") =>
                {
                    query.read_box(args, at + 1)?;
                    4
                }
                _ => return Err(CommandError::SYNTAX),
            };
        }
        query.check(args, from_member || from_point)?;
        Ok(query)
    }

    /// Options of one word.
    fn read_flag(&mut self, word: &[u8]) -> bool {
        match word {
            _ if is(word, "WITHDIST") => self.with_distance = true,
            _ if is(word, "WITHHASH") => self.with_hash = true,
            _ if is(word, "WITHCOORD") => self.with_point = true,
            _ if is(word, "ANY") => self.any = true,
            _ if is(word, "ASC") => self.order = Some(Order::Ascending),
            _ if is(word, "DESC") => self.order = Some(Order::Descending),
            _ => return false,
        }
        true
    }

    fn read_radius(&mut self, args: &Args<'_>, at: usize) -> Done {
        let radius = length(args.get(at), "ERR need numeric radius")?;
        if radius < 0.0 {
            return Err(CommandError::fixed("ERR radius cannot be negative"));
        }
        self.area = Some(Area::Radius(radius));
        self.unit = unit(args.get(at + 1))?;
        Ok(())
    }

    fn read_box(&mut self, args: &Args<'_>, at: usize) -> Done {
        let width = length(args.get(at), "ERR need numeric width")?;
        let height = length(args.get(at + 1), "ERR need numeric height")?;
        if width < 0.0 || height < 0.0 {
            return Err(CommandError::fixed(
                "ERR height or width cannot be negative",
            ));
        }
        self.area = Some(Area::Box(width, height));
        self.unit = unit(args.get(at + 2))?;
        Ok(())
    }

    fn check(&self, args: &Args<'_>, has_centre: bool) -> Done {
        let searches = self.form.is_search();
        let extras = self.with_distance || self.with_hash || self.with_point;
        let name = || String::from_utf8_lossy(args.get(0)).into_owned();
        let text = match self {
            _ if self.store.is_some() && extras => {
                let what = match searches {
                    true => "GEOSEARCHSTORE",
                    false => "STORE option in GEORADIUS",
                };
                format!(
                    "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
                )
            }
            _ if searches && !has_centre => format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}",
                name()
            ),
            _ if searches && self.area.is_none() => format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {}",
                name()
            ),
            _ if self.any && self.count == 0 => {
                "ERR the ANY argument requires COUNT argument".to_owned()
            }
            _ => return Ok(()),
        };
        Err(CommandError::line(text))
    }

    /// What is found, ordered and cut to the count.
    fn hits(&self, txn: &mut Txn<'_>, set: &SortedSet) -> Result<Vec<Hit>, CommandError> {
        let (Some(centre), Some(area)) = (self.centre, self.area) else {
            return Ok(Vec::new());
        };
        let mut hits = self.find(txn, set, centre, area)?;
        // The nearest ones, unless any will do.
        let nearest = (self.count > 0 && !self.any).then_some(Order::Ascending);
        match self.order.or(nearest) {
            Some(Order::Ascending) => hits.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
            Some(Order::Descending) => hits.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
            None => {}
        }
        if self.count > 0 {
            hits.truncate(usize::try_from(self.count).unwrap_or(usize::MAX));
        }
        Ok(hits)
    }

    fn find(
        &self,
        txn: &mut Txn<'_>,
        set: &SortedSet,
        centre: Point,
        area: Area,
    ) -> Result<Vec<Hit>, CommandError> {
        let unit = self.unit;
        let (shape, reach) = match area {
            Area::Radius(radius) => {
                let shape = Shape::Circle {
                    radius: radius * unit,
                };
                (shape, Reach::of_circle(radius, unit))
            }
            Area::Box(width, height) => {
                let shape = Shape::Box {
                    width: width * unit,
                    height: height * unit,
                };
                (shape, Reach::of_box(width, height, unit))
            }
        };
        let enough = match self.any {
            true => self.count,
            false => u64::MAX,
        };
        let mut hits: Vec<Hit> = Vec::new();
        for (min, max) in shape.score_ranges(centre, reach) {
            if hits.len() as u64 >= enough {
                break;
            }
            let bound = |score, exclusive| ScoreBound { score, exclusive };
            let span = score_span(bound(min, false), bound(max, true));
            set.visit(txn, &span, false, &mut |score, member| {
                let point = Point::of_score(score);
                if let Some(distance) = shape.holds(centre, point) {
                    let item = Item::new(score, member);
                    hits.push(Hit {
                        item,
                        point,
                        distance,
                    });
                }
                match (hits.len() as u64) < enough {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
        }
        Ok(hits)
    }

    fn write(&self, hits: &[Hit], out: &mut ReplyWriter) {
        let extras = [self.with_distance, self.with_hash, self.with_point];
        let extras = extras.iter().filter(|with| **with).count();
        out.array(hits.len());
        for hit in hits {
            if extras > 0 {
                out.array(1 + extras);
            }
            out.bulk(&hit.item.member);
            if self.with_distance {
                out.bulk(distance_text(hit.distance / self.unit).as_bytes());
            }
            if self.with_hash {
                out.integer(hit.item.score as i64);
            }
            if self.with_point {
                write_point(out, hit.point);
            }
        }
    }

    fn store_hits(
        &self,
        txn: &mut Txn<'_>,
        name: &[u8],
        hits: Vec<Hit>,
        out: &mut ReplyWriter,
    ) -> Done {
        let score = |hit: &Hit| match self.store_distance {
            true => hit.distance / self.unit,
            false => hit.item.score,
        };
        let mut items: Vec<Item> = hits
            .into_iter()
            .map(|hit| Item {
                score: score(&hit),
                member: hit.item.member,
            })
            .collect();
        sort(&mut items);
        // Around the whole earth two ways may lead to the same cell.
        items.dedup_by(|a, b| a.member == b.member);
        let event = match self.form.is_search() {
            true => "geosearchstore",
            false => "georadiusstore",
        };
        store(txn, name, &items, event, out)
    }
}

fn length(arg: &[u8], error: &'static str) -> Result<f64, CommandError> {
    float(arg).map_err(|_| CommandError::fixed(error))
}
