//! Families, classes and nodes, one by one, to see whether the reckoning's averages are so.
//!
//! Owns: a town made by chance, its sessions placed on nodes as a balancer does, every class's announcement in its minute, and one node's
//! looks at the bell. Refuses to know: the formulas (`model`), and what anything costs.

use super::inputs::Inputs;
use fastrand::Rng;

/// A transaction that runs longer than so many mean lengths is as good as none.
const LONGEST: f64 = 12.0;
/// Nodes are bits of a word.
pub const NODES: usize = 64;

/// How sessions come to their nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// To the node with the fewest, as HAProxy's `leastconn`.
    Fewest,
    /// All of a school to one node.
    BySchool,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub sessions: f64,
    /// Of the fullest node, in mean ones.
    pub fullest: f64,
    pub classes: f64,
    pub in_a_room: f64,
    pub holders: f64,
    /// News that Redis hands over for one event.
    pub bus_an_event: f64,
    pub deliveries_an_announcement: f64,
    /// Rooms that a node's look at the bell reads.
    pub rows_a_look: f64,
}

#[derive(Default)]
struct Room {
    school: usize,
    nodes: u64,
    sessions: u32,
    staff: u32,
}

struct Town<'a> {
    inputs: &'a Inputs,
    balance: Balance,
    rng: Rng,
    rooms: Vec<Room>,
    nodes: Vec<u32>,
    /// Somebody hung up and comes back before the next one comes.
    away: bool,
}

/// Lets one bell ring in a town.
pub fn simulate(inputs: &Inputs, families: usize, nodes: usize, balance: Balance, seed: u64) -> Seen {
    let nodes = nodes.clamp(1, NODES);
    let mut town =
        Town { inputs, balance, rng: Rng::with_seed(seed), rooms: Vec::new(), nodes: vec![0; nodes], away: false };
    let children = town.children(families);
    let classes = town.classes(children.last().copied().unwrap_or_default() as usize);
    let mut online: Vec<u32> = (0..families as u32).filter(|_| town.rng.f64() < inputs.online).collect();
    town.rng.shuffle(&mut online);
    for family in &online {
        let (from, until) =
            (family.checked_sub(1).map_or(0, |before| children[before as usize]), children[*family as usize]);
        town.comes(&classes, from, until);
    }
    town.teach();
    let private: Vec<usize> = online
        .iter()
        .filter(|_| town.rng.f64() < inputs.answers)
        .map(|family| classes[0][children[*family as usize] as usize - 1] as usize)
        .collect();
    town.ring(&private)
}

impl Town<'_> {
    /// For each family the number of the first child that is not its own: one, two or three children a family.
    fn children(&mut self, families: usize) -> Vec<u32> {
        let mut end = 0;
        let more = (self.inputs.children_per_family - 1.0) / 2.0;
        (0..families)
            .map(|_| {
                end += 1 + u32::from(self.rng.f64() < more) + u32::from(self.rng.f64() < more);
                end
            })
            .collect()
    }

    /// For each lesson the class of each child: children of one school, mixed anew.
    fn classes(&mut self, children: usize) -> Vec<Vec<u32>> {
        let school = self.inputs.children_per_school as usize;
        let class = self.inputs.children_per_class as usize;
        let mut next = 0_u32;
        (0..self.inputs.classes_per_child as usize)
            .map(|_| {
                let mut of_child = vec![0; children];
                for first in (0..children).step_by(school) {
                    let mut pupils: Vec<usize> = (first..(first + school).min(children)).collect();
                    self.rng.shuffle(&mut pupils);
                    for members in pupils.chunks(class) {
                        members.iter().for_each(|child| of_child[*child] = next);
                        self.rooms.push(Room { school: first / school, ..Room::default() });
                        next += 1;
                    }
                }
                of_child
            })
            .collect()
    }

    /// A family's sessions come, each to a node of its own, into the rooms of all its children.
    fn comes(&mut self, classes: &[Vec<u32>], from: u32, until: u32) {
        let second = self.rng.f64() < self.inputs.sessions_per_online_family - 1.0;
        for _ in 0..=usize::from(second) {
            let node = self.place(from as usize / self.inputs.children_per_school as usize);
            for child in from as usize..until as usize {
                for lesson in classes {
                    let room = &mut self.rooms[lesson[child] as usize];
                    room.nodes |= 1 << node;
                    room.sessions += 1;
                }
            }
        }
    }

    /// Each teacher has as many classes as a child; some classes have a second one.
    fn teach(&mut self) {
        let second: Vec<usize> =
            (0..self.rooms.len()).filter(|_| self.rng.f64() < self.inputs.staff_per_class - 1.0).collect();
        let first: Vec<usize> = (0..self.rooms.len()).collect();
        for rooms in first.chunks(self.inputs.classes_per_child as usize) {
            self.teaches(rooms);
        }
        for rooms in second.chunks(self.inputs.classes_per_child as usize) {
            self.teaches(rooms);
        }
    }

    fn teaches(&mut self, rooms: &[usize]) {
        let node = self.place(rooms.first().map_or(0, |room| self.rooms[*room].school));
        for room in rooms {
            self.rooms[*room].nodes |= 1 << node;
            self.rooms[*room].staff += 1;
        }
    }

    fn place(&mut self, school: usize) -> usize {
        let node = match self.balance {
            Balance::BySchool => school % self.nodes.len(),
            Balance::Fewest => {
                // Others hang up and come back, so that it is not one after the other.
                if std::mem::take(&mut self.away) {
                    let back = self.fewest();
                    self.nodes[back] += 1;
                } else if self.rng.f64() < 0.2 {
                    let gone = self.rng.usize(0..self.nodes.len());
                    self.away = self.nodes[gone] > 0;
                    self.nodes[gone] -= u32::from(self.away);
                }
                self.fewest()
            }
        };
        self.nodes[node] += 1;
        node
    }

    fn fewest(&mut self) -> usize {
        let fewest = self.nodes.iter().copied().min().unwrap_or_default();
        let first = self.rng.usize(0..self.nodes.len());
        let mut all = (0..self.nodes.len()).map(|step| (first + step) % self.nodes.len());
        all.find(|node| self.nodes[*node] == fewest).unwrap_or_default()
    }

    /// Every class announces, some families write and are answered.
    fn ring(mut self, private: &[usize]) -> Seen {
        let seconds = self.inputs.bell_minutes * 60.0;
        let rooms = self.rooms.len() as f64;
        let holders = |room: &Room| f64::from(room.nodes.count_ones());
        let announced: f64 = self.rooms.iter().map(holders).sum();
        let said: f64 = private.iter().map(|room| 2.0 * holders(&self.rooms[*room])).sum();
        let events = self.rooms.len() + 2 * private.len();
        let mut moments: Vec<f64> = (0..events).map(|_| self.rng.f64() * seconds).collect();
        moments.sort_by(f64::total_cmp);
        let sessions: f64 = self.nodes.iter().map(|count| f64::from(*count)).sum();
        let fullest = self.nodes.iter().copied().max().map_or(0.0, f64::from);
        let in_rooms: f64 = self.rooms.iter().map(|room| f64::from(room.sessions)).sum();
        let staff: f64 = self.rooms.iter().map(|room| f64::from(room.staff)).sum();
        Seen {
            sessions,
            fullest: fullest / (sessions / self.nodes.len() as f64),
            classes: rooms,
            in_a_room: in_rooms / rooms,
            holders: announced / rooms,
            bus_an_event: (announced + said) / events as f64,
            deliveries_an_announcement: (in_rooms + staff) / rooms,
            rows_a_look: self.looks(&moments, seconds),
        }
    }

    /// One node's looks at the bell: what began since the oldest transaction that was running at the look before, and is committed.
    fn looks(&mut self, began: &[f64], seconds: f64) -> f64 {
        let mean = self.inputs.commit;
        let committed: Vec<f64> =
            began.iter().map(|begin| begin + (mean * -self.rng.f64().max(1e-9).ln()).min(mean * LONGEST)).collect();
        let (mut since, mut rows, mut looks) = (0.0, 0_usize, 0_usize);
        let mut at = self.rng.f64() * self.inputs.look_interval;
        while at < seconds {
            let here = began.partition_point(|begin| *begin < at);
            let told = began.partition_point(|begin| *begin < since)..here;
            rows += committed[told].iter().filter(|commit| **commit <= at).count();
            let running = began.partition_point(|begin| *begin < at - mean * LONGEST)..here;
            since = running.clone().find(|place| committed[*place] > at).map_or(at, |oldest| began[oldest]);
            looks += 1;
            at += self.inputs.look_interval;
        }
        rows as f64 / looks.max(1) as f64
    }
}
