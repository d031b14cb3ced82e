//! What it adds to a delivery that its reader is at another node, with Redis and while Redis is away.
//!
//! Owns: the order of the run, and the comparison of two halves of one crowd that hear the same announcements at the same time.
//! Refuses to know: how a crowd behaves (see `fanout::field`).

use crate::cluster::{Cluster, ClusterError};
use crate::fanout::field::{Field, Kind};
use crate::fanout::voices;
use crate::people::{self, SignedIn};
use crate::school::{Plan, School};
use crate::{Failure, Surroundings};
use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::sleep;

/// How much of the beginning belongs to coming up to speed.
const WARM_UP: Duration = Duration::from_secs(2);
/// How soon after Redis is back all is as before.
const BACK_TO_NORMAL: Duration = Duration::from_secs(1);

/// How a run goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Rooms.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rooms: u32,
    /// Families in each room; every other one is at the other node.
    #[arg(long, default_value_t = 34, value_parser = clap::value_parser!(u32).range(2..=5_000))]
    members: u32,
    /// Deliveries a second, over all rooms.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    deliveries: u32,
    /// How long a window of measuring is, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

/// The two halves of the crowd.
struct Halves {
    near: Rc<Field>,
    far: Rc<Field>,
}

/// Runs it and prints the figures.
///
/// # Errors
/// When the run could not be made.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    let mut cluster = Cluster::start(&surroundings.server, 2, 0, &[]).await?;
    let outcome = LocalSet::new().run_until(Box::pin(measure(options, surroundings, &mut cluster))).await;
    let stopped = cluster.stop().await;
    outcome.and(stopped.map_err(Failure::from))
}

async fn measure(options: &Options, surroundings: &Surroundings, cluster: &mut Cluster) -> Result<(), Failure> {
    let halves = gather(options, cluster).await?;
    let seconds = Duration::from_secs(options.seconds);
    halves.near.begin();
    sleep(WARM_UP).await;

    let (near, far) = halves.window(seconds, surroundings, "both nodes up").await?;
    println!("{} deliveries to readers at the author's node, {} at the other one", near.len(), far.len());
    show("at the author's node", &near);
    show("at the other node", &far);
    let added = |quantile| (far.value_at_quantile(quantile) as f64 - near.value_at_quantile(quantile) as f64) / 1e3;
    println!("the other node adds {:.2} ms at p50, {:.2} ms at p99", added(0.5), added(0.99));

    cluster.redis.kill().await;
    let (_, away) = halves.window(seconds, surroundings, "Redis away").await?;
    show("at the other node while Redis is away", &away);
    cluster.redis.run().await.map_err(ClusterError::from)?;
    sleep(BACK_TO_NORMAL).await;
    let (_, back) = halves.window(seconds, surroundings, "Redis back").await?;
    show("at the other node from 1 s after its return on", &back);
    halves.near.end();
    for (error, times) in halves.near.errors.borrow().iter().chain(&*halves.far.errors.borrow()) {
        println!("{times} × {error}");
    }
    Ok(())
}

async fn gather(options: &Options, cluster: &Cluster) -> Result<Halves, Failure> {
    let rooms = options.rooms as usize;
    let school = School::new(Plan {
        classes: rooms,
        teachers_per_class: 1,
        students: (options.members * options.rooms) as usize,
        classes_per_student: 1,
        ..Plan::default()
    });
    let (store, ids) = people::move_in(cluster, &school).await?;
    let signed_in = people::write_in(&store, &ids, &school.people()).await?;
    store.close().await;

    let [first, second, ..] = cluster.nodes.as_slice() else { return Err(Failure::Gone) };
    let near = Rc::new(Field::new(Kind::Homeroom, first.process().ok_or(Failure::Gone)?, None));
    let far = Rc::new(near.beside(second.process().ok_or(Failure::Gone)?));
    let (teachers, families) = signed_in.split_at(rooms);
    // Neighbours in the list are in neighbouring classes: whole rounds of classes go to one node, then to the other.
    let half = |place: usize| {
        if (place / rooms).is_multiple_of(2) { (first.listens_on(), &near) } else { (second.listens_on(), &far) }
    };
    let connecting = families.iter().enumerate().map(|(place, family): (usize, &SignedIn)| {
        let (server, field) = half(place);
        async move { voices::connect(server, &family.token).await.map(|wire| (wire, Rc::clone(field))) }
    });
    let wires: Vec<_> = stream::iter(connecting).buffer_unordered(32).try_collect().await?;
    for (wire, field) in wires {
        tokio::task::spawn_local(voices::listen(wire, field));
    }
    let rate = f64::from(options.deliveries) / f64::from(options.members);
    let pace = voices::Pace { teachers: teachers.len(), rate, text: 120 };
    for (class, teacher) in teachers.iter().enumerate() {
        let wire = voices::connect(first.listens_on(), &teacher.token).await?;
        let says = voices::Says::announcements(ids.room(class));
        tokio::task::spawn_local(voices::teach(wire, says, class, pace, Rc::clone(&near)));
    }
    Ok(Halves { near, far })
}

impl Halves {
    /// What both heard in the same time.
    async fn window(
        &self,
        length: Duration,
        surroundings: &Surroundings,
        what: &'static str,
    ) -> Result<(Histogram<u64>, Histogram<u64>), Failure> {
        self.near.measure_latency()?;
        self.far.measure_latency()?;
        let bar = surroundings.bar(length.as_secs(), what);
        for _ in 0..length.as_secs() {
            sleep(Duration::from_secs(1)).await;
            bar.inc(1);
        }
        bar.finish_and_clear();
        match (self.near.latencies(), self.far.latencies()) {
            (Some(near), Some(far)) => Ok((near, far)),
            _ => Err(Failure::Gone),
        }
    }
}

fn show(whose: &str, latency: &Histogram<u64>) {
    let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{whose}: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms",
        at(0.5),
        at(0.99),
        at(0.999),
        latency.max() as f64 / 1e3
    );
}
