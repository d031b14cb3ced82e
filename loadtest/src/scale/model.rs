//! The reckoning: what so many families need at the bell.
//!
//! Owns: the formulas, from the figures to nodes, Redis masters, PostgreSQL and money, and which part breaks first.
//! Refuses to know: where the figures come from, and how the result is shown.

use super::inputs::Inputs;

/// What happens at the bell, in all, by the second.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    pub classes: f64,
    pub sessions: f64,
    pub sign_ins: f64,
    pub announcements: f64,
    /// Announcements, private messages and their answers.
    pub events: f64,
    pub deliveries: f64,
    /// At most: each reader says "delivered" and "read".
    pub marks: f64,
    /// Sessions of families in a class's room.
    pub in_a_room: f64,
}

/// What is needed for it.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    pub peak: Peak,
    pub nodes: f64,
    pub nodes_by: &'static str,
    /// Cores of all nodes in use: for signing in, delivering, marks, and hearing other nodes.
    pub cores: [f64; 4],
    /// Nodes that hold a class's room.
    pub holders: f64,
    /// News that Redis hands over, a second.
    pub bus: f64,
    pub masters: f64,
    /// How much of the measured PostgreSQL is used, by what: 1 is all of it.
    pub appends: f64,
    pub marks: f64,
    pub sign_ins: f64,
    pub looks: f64,
    /// The size of PostgreSQL, in measured ones; at least 1.
    pub postgres: f64,
    /// Rows that all nodes' looks at the bell read, a second.
    pub look_rows: f64,
    pub connections: f64,
    pub gigabytes_a_year: f64,
    pub euros_a_month: [f64; 5],
}

/// Parts that can be too small.
pub const LIMITS: [Limit; 5] = [
    Limit { name: "PostgreSQL as measured, two cores", of: |inputs, needs| needs.used() / inputs.busy },
    Limit { name: "PostgreSQL's connections", of: |inputs, needs| needs.connections / inputs.postgres_connections },
    Limit { name: "the largest PostgreSQL", of: |inputs, needs| needs.used() / inputs.busy / inputs.postgres_largest },
    Limit {
        name: "one Redis master",
        of: |inputs, needs| {
            let publishes = needs.published() / inputs.redis_publishes;
            (needs.bus / inputs.redis_deliveries).max(publishes) / inputs.busy
        },
    },
    Limit {
        name: "a Redis Cluster",
        of: |inputs, needs| needs.bus / inputs.redis_deliveries / inputs.busy / inputs.redis_masters_most,
    },
];

/// A part, and how much of it is needed: above 1 it is not enough.
pub struct Limit {
    pub name: &'static str,
    pub of: fn(&Inputs, &Needs) -> f64,
}

impl Limit {
    /// So many families are too many for it.
    pub fn families(&self, inputs: &Inputs) -> f64 {
        let (mut few, mut many) = (1e3_f64, 1e10_f64);
        while many / few > 1.001 {
            let families = (few * many).sqrt();
            if (self.of)(inputs, &needs(inputs, families)) > 1.0 {
                many = families;
            } else {
                few = families;
            }
        }
        few
    }
}

impl Needs {
    /// How much of the measured PostgreSQL is used.
    pub fn used(&self) -> f64 {
        self.appends + self.marks + self.sign_ins + self.looks
    }

    fn published(&self) -> f64 {
        self.peak.events + self.peak.marks
    }
}

/// What so many families do at the bell.
pub fn peak(inputs: &Inputs, families: f64) -> Peak {
    let seconds = inputs.bell_minutes * 60.0;
    let children = families * inputs.children_per_family;
    let classes = children * inputs.classes_per_child / inputs.children_per_class;
    let online = families * inputs.online;
    let sessions = online * inputs.sessions_per_online_family;
    let in_a_room = inputs.children_per_class * inputs.online * inputs.sessions_per_online_family;
    let announcements = classes / seconds;
    let private = 2.0 * online * inputs.answers / seconds;
    // A private message reaches the family's other sessions and the class's staff.
    let of_private = inputs.sessions_per_online_family + inputs.staff_per_class;
    let deliveries = announcements * (in_a_room + inputs.staff_per_class) + private * of_private;
    Peak {
        classes,
        sessions: sessions + classes * inputs.staff_per_class / inputs.classes_per_child,
        sign_ins: sessions / seconds,
        announcements,
        events: announcements + private,
        deliveries,
        marks: 2.0 * deliveries,
        in_a_room,
    }
}

/// Nodes that hold a room in which so many sessions are, placed by chance.
pub fn holders(nodes: f64, sessions: f64) -> f64 {
    nodes * (1.0 - (1.0 - 1.0 / nodes).powf(sessions))
}

/// What has to be there.
pub fn needs(inputs: &Inputs, families: f64) -> Needs {
    let peak = peak(inputs, families);
    let by_sessions = peak.sessions / (inputs.sessions_per_core * inputs.node_cores * inputs.busy);
    let by_memory = peak.sessions * inputs.connection_memory / (inputs.node_memory * 1e6 * inputs.busy);
    // What a node hears hangs on how many there are: a few rounds settle it.
    let (mut nodes, mut cores, mut by_cpu, mut held) = (1.0_f64, [0.0; 4], 0.0, 1.0);
    for _ in 0..20 {
        held = holders(nodes, peak.in_a_room + inputs.staff_per_class);
        let heard = held * (peak.events * inputs.hear_cpu + peak.marks * inputs.hear_mark_cpu);
        let cpu = [
            peak.sign_ins * inputs.sign_in_cpu,
            peak.deliveries * inputs.delivery_cpu,
            peak.marks * inputs.mark_cpu,
            if nodes > 1.0 { heard } else { 0.0 },
        ];
        cores = cpu.map(|micros| micros / 1e6);
        by_cpu = cores.iter().sum::<f64>() / (inputs.node_cores * inputs.busy);
        // One more than the load needs: one may be away.
        nodes = by_cpu.max(by_sessions).max(by_memory).ceil() + 1.0;
    }
    let most = by_cpu.max(by_sessions).max(by_memory);
    let nodes_by = if most == by_cpu {
        "CPU"
    } else if most == by_sessions {
        "sessions"
    } else {
        "memory"
    };
    let bus = (peak.events + peak.marks) * held;
    let look_rows = nodes * peak.events * (inputs.look_interval + overlap(inputs, peak.events)) / inputs.look_interval;
    let postgres_second = inputs.postgres_cores * 1e6;
    let looks = nodes / inputs.look_interval * inputs.look_cpu + look_rows * inputs.look_row_cpu;
    let mut needs = Needs {
        peak,
        nodes,
        nodes_by,
        cores,
        holders: held,
        bus,
        masters: (bus / inputs.redis_deliveries / inputs.busy).ceil().max(1.0),
        appends: peak.events / inputs.postgres_appends,
        marks: peak.marks / inputs.postgres_marks,
        sign_ins: peak.sign_ins * inputs.postgres_sign_in_cpu / postgres_second,
        looks: looks / postgres_second,
        postgres: 1.0,
        look_rows,
        connections: nodes * inputs.postgres_connections_a_node,
        gigabytes_a_year: 0.0,
        euros_a_month: [0.0; 5],
    };
    needs.postgres = (needs.used() / inputs.busy).max(1.0);
    pay(inputs, families, &mut needs);
    needs
}

/// Seconds of events that a look is told once more: those that began after the oldest transaction which was still running at the look
/// before, and were committed by then. Transactions come by chance, and last as long as chance has it.
pub fn overlap(inputs: &Inputs, events: f64) -> f64 {
    let mean = inputs.commit;
    // The oldest of so many that run at once began so long ago.
    let oldest = mean * (events * mean).ln_1p();
    oldest - mean * (1.0 - (-oldest / mean).exp())
}

fn pay(inputs: &Inputs, families: f64, needs: &mut Needs) {
    let peak = needs.peak;
    let announced = peak.classes * inputs.announcements_per_class_and_day * inputs.school_days;
    let private = families * inputs.private_per_family_and_week * inputs.school_days / 5.0;
    needs.gigabytes_a_year = (announced + private) * inputs.event_bytes / 1e9;
    // Whoever is away at the bell reads it later.
    let readers = peak.in_a_room / inputs.online + inputs.staff_per_class;
    let sent = (announced * readers + private * (inputs.sessions_per_online_family + inputs.staff_per_class))
        * inputs.delivery_bytes
        / 1e9;
    needs.euros_a_month = [
        needs.nodes * inputs.price_node,
        // Each master with a replica.
        2.0 * needs.masters * inputs.price_redis,
        needs.postgres * inputs.price_postgres,
        // Two years of it, twice, and a backup.
        needs.gigabytes_a_year * 2.0 * 3.0 * inputs.price_storage,
        sent / 12.0 * inputs.price_traffic,
    ];
}
