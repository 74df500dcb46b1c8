//! Geohashes as Redis makes them: the mathematics of the geo commands.
//!
//! A position is a cell of 52 bits (26 a coordinate, interleaved, longitude
//! in the odd bits), which a double holds exactly: the member's score. The
//! order of operations is Redis's, because its results are judged to the last
//! digit. Pure functions.
//!
//! Interleaving: <https://graphics.stanford.edu/~seander/bithacks.html#InterleaveBMN>.
//! Distances: the haversine formula on a sphere.

use std::f64::consts::PI;

/// Steps (bits per coordinate) of a stored position.
pub(super) const STEPS: u8 = 26;
const LONGITUDE: Range = Range {
    min: -180.0,
    max: 180.0,
};
/// The poles are not part of the map (EPSG:3857).
const LATITUDE: Range = Range {
    min: -85.05112878,
    max: 85.05112878,
};
const EARTH_RADIUS_M: f64 = 6372797.560856;
const MERCATOR_MAX_M: f64 = 20037726.37;
const LONGITUDE_BITS: u64 = 0xaaaa_aaaa_aaaa_aaaa;
const LATITUDE_BITS: u64 = 0x5555_5555_5555_5555;
const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    min: f64,
    max: f64,
}

/// A position in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(super) struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

impl Point {
    /// Whether a position is on the map.
    pub(super) fn is_valid(self) -> bool {
        (LONGITUDE.min..=LONGITUDE.max).contains(&self.longitude)
            && (LATITUDE.min..=LATITUDE.max).contains(&self.latitude)
    }

    /// The score under which a position is stored.
    pub(super) fn score(self) -> f64 {
        Cell::at(self, LONGITUDE, LATITUDE, STEPS).scores().0
    }

    /// The position that a score stands for: the middle of its cell.
    pub(super) fn of_score(score: f64) -> Point {
        // As C converts: modulo 2^64, a negative score too.
        let bits = match score < 9_223_372_036_854_775_808.0 {
            true => score as i64 as u64,
            false => score as u64,
        };
        let area = Cell { bits, steps: STEPS }.area();
        let middle = |range: Range| (range.min + range.max) / 2.0;
        Point {
            longitude: middle(area.longitude).clamp(LONGITUDE.min, LONGITUDE.max),
            latitude: middle(area.latitude).clamp(LATITUDE.min, LATITUDE.max),
        }
    }

    /// The standard geohash, eleven letters; the last one is always `0`,
    /// since 52 bits are ten letters and a bit.
    pub(super) fn geohash(self) -> [u8; 11] {
        let latitude = Range {
            min: -90.0,
            max: 90.0,
        };
        let cell = Cell::at(self, LONGITUDE, latitude, STEPS);
        let mut text = [b'0'; 11];
        for (at, letter) in text.iter_mut().take(10).enumerate() {
            let index = (cell.bits >> (52 - (at + 1) * 5)) & 0x1f;
            *letter = ALPHABET[index as usize];
        }
        text
    }
}

/// Distance of two positions, m.
pub(super) fn distance(a: Point, b: Point) -> f64 {
    let (lon1, lon2) = (radians(a.longitude), radians(b.longitude));
    let v = ((lon2 - lon1) / 2.0).sin();
    if v == 0.0 {
        return latitude_distance(a.latitude, b.latitude);
    }
    let (lat1, lat2) = (radians(a.latitude), radians(b.latitude));
    let u = ((lat2 - lat1) / 2.0).sin();
    let h = u * u + lat1.cos() * lat2.cos() * v * v;
    2.0 * EARTH_RADIUS_M * h.sqrt().asin()
}

fn latitude_distance(a: f64, b: f64) -> f64 {
    EARTH_RADIUS_M * (radians(b) - radians(a)).abs()
}

fn radians(degrees: f64) -> f64 {
    degrees * (PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (PI / 180.0)
}

/// What is searched around a centre. Lengths in m.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

impl Shape {
    /// The distance from the centre if the shape holds `point`.
    pub(super) fn holds(self, centre: Point, point: Point) -> Option<f64> {
        match self {
            Shape::Circle { radius } => {
                let distance = distance(centre, point);
                (distance <= radius).then_some(distance)
            }
            Shape::Box { width, height } => {
                if latitude_distance(point.latitude, centre.latitude) > height / 2.0 {
                    return None;
                }
                let beside = Point {
                    latitude: point.latitude,
                    ..centre
                };
                match distance(point, beside) > width / 2.0 {
                    true => None,
                    false => Some(distance(centre, point)),
                }
            }
        }
    }

    /// Ranges of scores (the second end excluded) that hold all positions
    /// within the shape, in the order in which Redis searches them.
    pub(super) fn score_ranges(self, centre: Point, reach: Reach) -> Vec<(f64, f64)> {
        let bounds = reach.bounds(centre);
        let mut steps = steps_for(reach.radius, centre.latitude);
        let mut cells = Cells::around(centre, steps);
        if steps > 1 && !cells.cover(&bounds) {
            steps -= 1;
            cells = Cells::around(centre, steps);
        }
        if steps >= 2 {
            cells.leave_out_useless(&bounds);
        }
        cells.score_ranges()
    }
}

/// How far a shape reaches from its centre, m. Computed from the numbers that
/// the client gave and the unit's length, in Redis's order of operations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    east_west: f64,
    north_south: f64,
    radius: f64,
}

impl Reach {
    pub(super) fn of_circle(radius: f64, unit: f64) -> Reach {
        Reach {
            east_west: unit * radius,
            north_south: unit * radius,
            radius: radius * unit,
        }
    }

    pub(super) fn of_box(width: f64, height: f64, unit: f64) -> Reach {
        let (half_width, half_height) = (width / 2.0, height / 2.0);
        let corner = (half_width * half_width + half_height * half_height).sqrt();
        Reach {
            east_west: unit * half_width,
            north_south: unit * half_height,
            radius: corner * unit,
        }
    }

    fn bounds(self, centre: Point) -> Area {
        let latitude = centre.latitude;
        let up = degrees(self.north_south / EARTH_RADIUS_M);
        let sideways =
            |latitude: f64| degrees(self.east_west / EARTH_RADIUS_M / radians(latitude).cos());
        // The wider of the two: the one nearer to a pole would do, Redis takes
        // this one.
        let across = match latitude < 0.0 {
            true => sideways(latitude - up),
            false => sideways(latitude + up),
        };
        Area {
            longitude: Range {
                min: centre.longitude - across,
                max: centre.longitude + across,
            },
            latitude: Range {
                min: latitude - up,
                max: latitude + up,
            },
        }
    }
}

/// Steps at which nine cells cover a radius.
fn steps_for(radius: f64, latitude: f64) -> u8 {
    if radius == 0.0 {
        return STEPS;
    }
    let (mut radius, mut steps) = (radius, 1);
    while radius < MERCATOR_MAX_M {
        radius *= 2.0;
        steps += 1;
    }
    steps -= 2;
    // Cells are narrower towards the poles.
    if !(-66.0..=66.0).contains(&latitude) {
        steps -= 1;
        if !(-80.0..=80.0).contains(&latitude) {
            steps -= 1;
        }
    }
    steps.clamp(1, i32::from(STEPS)) as u8
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Area {
    longitude: Range,
    latitude: Range,
}

/// A cell of the map: as many bits as two for each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    bits: u64,
    steps: u8,
}

impl Cell {
    fn at(point: Point, longitude: Range, latitude: Range, steps: u8) -> Cell {
        let offset = |value: f64, range: Range| {
            let part = (value - range.min) / (range.max - range.min);
            (part * (1_u64 << steps) as f64) as u32
        };
        let (x, y) = (
            offset(point.longitude, longitude),
            offset(point.latitude, latitude),
        );
        Cell {
            bits: spread(y) | spread(x) << 1,
            steps,
        }
    }

    fn area(self) -> Area {
        let side = |index: u32, range: Range| {
            let scale = range.max - range.min;
            let at =
                |index: u32| range.min + (f64::from(index) / (1_u64 << self.steps) as f64) * scale;
            Range {
                min: at(index),
                max: at(index.wrapping_add(1)),
            }
        };
        Area {
            longitude: side(gather(self.bits >> 1), LONGITUDE),
            latitude: side(gather(self.bits), LATITUDE),
        }
    }

    /// The cell beside this one, around the map's edge if need be; -1, 0 or 1
    /// each way.
    fn moved(self, east: i8, north: i8) -> Cell {
        let unused = 64 - u32::from(self.steps) * 2;
        let step = |bits: u64, other: u64, way: i8| {
            let mask = (!other) >> unused;
            let filler = other >> unused;
            match way {
                0 => bits & !other,
                1 => (bits & !other).wrapping_add(filler + 1) & mask,
                _ => (bits & !other | filler).wrapping_sub(filler + 1) & mask,
            }
        };
        Cell {
            bits: step(self.bits, LATITUDE_BITS, east) | step(self.bits, LONGITUDE_BITS, north),
            ..self
        }
    }

    /// First score of the cell, and the first one behind it.
    fn scores(self) -> (f64, f64) {
        let align = |bits: u64| (bits << (52 - u32::from(self.steps) * 2)) as f64;
        (align(self.bits), align(self.bits + 1))
    }
}

/// Moves the bits of a number to the even places.
fn spread(value: u32) -> u64 {
    let mut x = u64::from(value);
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x << 2) & 0x3333_3333_3333_3333;
    (x | x << 1) & 0x5555_5555_5555_5555
}

/// Undoes [`spread`].
fn gather(bits: u64) -> u32 {
    let mut x = bits & 0x5555_5555_5555_5555;
    x = (x | x >> 1) & 0x3333_3333_3333_3333;
    x = (x | x >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// Ways to the neighbours, in the order in which Redis searches them.
const WAYS: [(i8, i8); 9] = [
    (0, 0),
    (0, 1),
    (0, -1),
    (1, 0),
    (-1, 0),
    (1, 1),
    (-1, 1),
    (1, -1),
    (-1, -1),
];

/// A cell and its neighbours, in the order of [`WAYS`]; what need not be
/// searched is `None`.
struct Cells([Option<Cell>; 9]);

impl Cells {
    fn around(centre: Point, steps: u8) -> Cells {
        let cell = Cell::at(centre, LONGITUDE, LATITUDE, steps);
        Cells(WAYS.map(|(east, north)| Some(cell.moved(east, north))))
    }

    fn area(&self, way: usize) -> Area {
        self.0[way].expect("none is left out yet").area()
    }

    /// Whether the neighbours on the four sides reach as far as the bounds.
    fn cover(&self, bounds: &Area) -> bool {
        let [north, south, east, west] = [1, 2, 3, 4].map(|way| self.area(way));
        let short = north.latitude.max < bounds.latitude.max
            || south.latitude.min > bounds.latitude.min
            || east.longitude.max < bounds.longitude.max
            || west.longitude.min > bounds.longitude.min;
        !short
    }

    /// Leaves out the neighbours on sides where the cell itself reaches
    /// beyond the bounds.
    fn leave_out_useless(&mut self, bounds: &Area) {
        let own = self.area(0);
        let south = own.latitude.min < bounds.latitude.min;
        let north = own.latitude.max > bounds.latitude.max;
        let west = own.longitude.min < bounds.longitude.min;
        let east = own.longitude.max > bounds.longitude.max;
        for ((to_east, to_north), cell) in WAYS.into_iter().zip(&mut self.0) {
            let useless = south && to_north == -1
                || north && to_north == 1
                || west && to_east == -1
                || east && to_east == 1;
            if useless {
                *cell = None;
            }
        }
    }

    fn score_ranges(&self) -> Vec<(f64, f64)> {
        let mut last = None;
        let mut ranges = Vec::with_capacity(9);
        for (at, cell) in self.0.iter().enumerate() {
            // Of a huge area neighbours are the same cell.
            if let Some(cell) = cell
                && last != Some(*cell)
            {
                ranges.push(cell.scores());
                if at > 0 {
                    last = Some(*cell);
                }
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALERMO: Point = Point {
        longitude: 13.361389,
        latitude: 38.115556,
    };
    const CATANIA: Point = Point {
        longitude: 15.087269,
        latitude: 37.502669,
    };

    #[test]
    fn the_examples_of_redis_come_out() {
        assert_eq!(PALERMO.score(), 3479099956230698.0);
        assert_eq!(CATANIA.score(), 3479447370796909.0);
        let [palermo, catania] = [PALERMO, CATANIA].map(|p| Point::of_score(p.score()));
        assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
        assert_eq!(&catania.geohash(), b"sqdtr74hyu0");
        assert_eq!(format!("{:.4}", distance(palermo, catania)), "166274.1516");
    }

    #[test]
    fn interleaving_can_be_undone() {
        for value in [0, 1, 0xdead_beef, u32::MAX] {
            assert_eq!(gather(spread(value)), value);
        }
    }

    #[test]
    fn neighbours_wrap_around_the_map() {
        let corner = Cell { bits: 0, steps: 2 };
        assert_eq!(corner.moved(-1, 0).area().longitude.max, 180.0);
        assert_eq!(corner.moved(0, -1).area().latitude.max, LATITUDE.max);
        assert_eq!(corner.moved(1, 1).moved(-1, -1), corner);
    }
}
