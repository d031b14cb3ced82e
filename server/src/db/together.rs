//! Questions that many ask at once, put to the database together.
//!
//! Owns: gathering what is asked while the last answer is on its way, so that a herd costs a few queries, and who asks alone waits for nobody.
//! Refuses to know: what is asked.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Questions that wait. Full: who asks waits for a place.
const WAITING: usize = 4_096;
/// Questions in one query, so that no answer holds up the others for long.
const MOST: usize = 128;

/// A question that is asked together with others like it.
pub struct Together<Q, A>(mpsc::Sender<Asked<Q, A>>);

/// One question, and the way back to who asked.
struct Asked<Q, A> {
    question: Q,
    answer: oneshot::Sender<Result<A, NoAnswer>>,
}

/// Why none of those who asked together has an answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("asked together with others: {0}")]
struct NoAnswer(Arc<sqlx::Error>);

impl<Q: Send + 'static, A: Send + 'static> Together<Q, A> {
    /// `ask` answers all questions of one round, in their order, and is not waited for without end by what it asks in turn. It runs as long
    /// as somebody may ask.
    pub fn new<F, R>(ask: F) -> Self
    where
        F: Fn(Vec<Q>) -> R + Send + 'static,
        R: Future<Output = Result<Vec<A>, sqlx::Error>> + Send + 'static,
    {
        let (questions, asked) = mpsc::channel(WAITING);
        tokio::spawn(answer(asked, ask));
        Self(questions)
    }

    /// The answer to one question, read from the database after it was asked. Dropping the future loses the answer and nothing else.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ask(&self, question: Q) -> Result<A, sqlx::Error> {
        let (answer, answered) = oneshot::channel();
        // Both end only with the runtime.
        self.0.send(Asked { question, answer }).await.map_err(|_| sqlx::Error::WorkerCrashed)?;
        let answer = answered.await.map_err(|_| sqlx::Error::WorkerCrashed)?;
        answer.map_err(|error| sqlx::Error::AnyDriverError(Box::new(error)))
    }
}

impl<Q, A> fmt::Debug for Together<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Together")
    }
}

async fn answer<Q, A, F, R>(mut asked: mpsc::Receiver<Asked<Q, A>>, ask: F)
where
    F: Fn(Vec<Q>) -> R,
    R: Future<Output = Result<Vec<A>, sqlx::Error>>,
{
    let mut round = Vec::new();
    while asked.recv_many(&mut round, MOST).await > 0 {
        let (questions, waiting): (Vec<Q>, Vec<_>) =
            round.drain(..).map(|asked| (asked.question, asked.answer)).unzip();
        // Whoever has gone meanwhile needs no answer. None is waited for without end: the pool sees to that.
        match ask(questions).await {
            Ok(answers) => waiting.into_iter().zip(answers).for_each(|(to, answer)| drop(to.send(Ok(answer)))),
            Err(error) => {
                let error = NoAnswer(Arc::new(error));
                waiting.into_iter().for_each(|to| drop(to.send(Err(error.clone()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::sync::Mutex;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn what_is_asked_while_an_answer_is_on_its_way_is_asked_together() {
        let gate = Arc::new(Semaphore::new(0));
        let rounds = Arc::new(Mutex::new(Vec::new()));
        let doubled = Arc::new(Together::new({
            let (gate, rounds) = (gate.clone(), rounds.clone());
            move |questions: Vec<u32>| {
                rounds.lock().unwrap().push(questions.len());
                let gate = gate.clone();
                async move {
                    gate.acquire().await.unwrap().forget();
                    Ok(questions.into_iter().map(|question| question * 2).collect())
                }
            }
        }));
        let ask = |question| {
            let doubled = doubled.clone();
            tokio::spawn(async move { doubled.ask(question).await.unwrap() })
        };
        let mut asking = vec![ask(0)];
        while rounds.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        asking.extend((1..300).map(ask));
        while doubled.0.capacity() > WAITING - 299 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(300);
        let answers: Vec<u32> = join_all(asking).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (0..300).map(|question| question * 2).collect::<Vec<u32>>(), "each has its own answer");
        assert_eq!(*rounds.lock().unwrap(), [1, 128, 128, 43]);
    }

    #[tokio::test]
    async fn who_asked_in_a_round_that_fails_is_told_and_the_next_round_is_asked() {
        let ask = |questions: Vec<bool>| async move {
            if questions.contains(&false) { Err(sqlx::Error::PoolTimedOut) } else { Ok(questions) }
        };
        let together = Together::new(ask);
        let error = together.ask(false).await.unwrap_err();
        assert!(error.to_string().contains("pool timed out"), "{error}");
        assert!(together.ask(true).await.unwrap());
    }

    #[tokio::test]
    async fn who_goes_away_is_no_hindrance() {
        let together = Together::new(|questions: Vec<u8>| async move {
            tokio::task::yield_now().await;
            Ok(questions)
        });
        let mut gone = Box::pin(together.ask(1));
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(gone);
        assert_eq!(together.ask(2).await.unwrap(), 2);
    }
}
