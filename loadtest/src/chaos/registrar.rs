//! The school's office: moves people in and out of classes while everybody speaks.
//!
//! Owns: changing the school's files as an office does, and importing them through one node after the other until one has done it.
//! Refuses to know: what happens to the nodes meanwhile, and who hears what.

use crate::Failure;
use crate::cast::{self, Ids};
use crate::diary::Clock;
use crate::node::{Node, NodeError};
use crate::participant::Act;
use crate::roll::Roll;
use crate::school::School;
use chrono::Utc;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long a node may take for an import before another one is asked. Longer than any pause of a node.
const IMPORT_WITHIN: Duration = Duration::from_secs(10);
/// Moves that are undone before more are made.
const MOST_MOVED: usize = 3;

/// A change that an office makes, and takes back later.
#[derive(Debug, Clone, Copy)]
enum Move {
    /// A student does not come to one of their classes any more.
    Out { student: usize, class: usize },
    /// A teacher of another class helps out in this one.
    Cover { teacher: usize, class: usize },
}

/// Whoever keeps the school's files.
pub struct Registrar {
    school: School,
    ids: Ids,
    roll: Roll,
    offices: Vec<Node>,
    folder: PathBuf,
    random: fastrand::Rng,
    clock: Clock,
    moved: Vec<Move>,
}

impl Registrar {
    /// With these files; `folder` takes new ones.
    pub fn new(
        school: School,
        ids: Ids,
        roll: Roll,
        offices: Vec<Node>,
        folder: &Path,
        random: fastrand::Rng,
        clock: Clock,
    ) -> Self {
        let folder = folder.join("moves");
        Self { school, ids, roll, offices, folder, random, clock, moved: Vec::new() }
    }

    /// Moves people while everybody speaks.
    ///
    /// # Errors
    /// When files can't be written, or the school no longer fits the database.
    pub async fn work(mut self, mut act: watch::Receiver<Act>) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.folder)?;
        loop {
            let pause = Duration::from_millis(self.random.u64(300..2_000));
            // Dropping the sleep loses nothing but the pause.
            tokio::select! {
                () = sleep(pause) => {}
                changed = act.changed() => if changed.is_err() {
                    return Ok(());
                },
            }
            let now = *act.borrow_and_update();
            match now {
                Act::Speak | Act::Listen if self.roll.is_put_back() => self.import().await?,
                Act::Speak => self.change().await?,
                Act::Listen => {}
                Act::Leave => return Ok(()),
            }
        }
    }

    /// Makes one change, or takes one back, and has it imported.
    async fn change(&mut self) -> Result<(), Failure> {
        let back = self.moved.len() >= MOST_MOVED || (!self.moved.is_empty() && self.random.bool());
        if back {
            let which = self.random.usize(..self.moved.len());
            match self.moved.swap_remove(which) {
                Move::Out { student, class } => self.school.classes_of[student].push(class),
                Move::Cover { teacher, class } => {
                    let teacher = &self.school.teachers[teacher][0];
                    let is_other = |other: &String| other != teacher;
                    self.school.teachers[class] =
                        self.school.teachers[class].iter().filter(|other| is_other(other)).cloned().collect();
                }
            }
        } else {
            self.make_move();
        }
        self.import().await
    }

    fn make_move(&mut self) {
        let classes = self.school.teachers.len();
        let covers = self.moved.iter().any(|moved| matches!(moved, Move::Cover { .. }));
        if classes > 1 && !covers && self.random.u32(0..4) == 0 {
            let teacher = classes - 1;
            let class = self.random.usize(..teacher);
            let name = self.school.teachers[teacher][0].clone();
            self.school.teachers[class].push(name);
            self.moved.push(Move::Cover { teacher, class });
            return;
        }
        let student = self.random.usize(..self.school.classes_of.len());
        let classes = &mut self.school.classes_of[student];
        // The last class of a student stays, so that nobody is without a room for long.
        if classes.len() > 1 {
            let class = classes.swap_remove(self.random.usize(..classes.len()));
            self.moved.push(Move::Out { student, class });
        }
    }

    /// Imports the files as they are now, through whichever node does it.
    async fn import(&mut self) -> Result<(), Failure> {
        // Kept until the import is known to be done.
        let roll = self.roll.clone();
        let _closed = roll.closed().await;
        self.school.write(&self.folder)?;
        self.roll.begin(cast::sights(&self.school, &self.ids)?);
        let planned = cast::planned(&self.school, &self.ids)?;
        let began = Utc::now();
        loop {
            let office = &self.offices[self.random.usize(..self.offices.len())];
            match timeout(IMPORT_WITHIN, office.import(&self.folder)).await {
                Ok(Ok(())) => break,
                // A node that was killed, or has no database, or finds another import under way.
                Ok(Err(NodeError::Failed { .. })) | Err(_) => sleep(Duration::from_millis(200)).await,
                Ok(Err(error)) => return Err(error.into()),
            }
        }
        self.roll.end(planned, began, self.clock.now());
        Ok(())
    }
}
