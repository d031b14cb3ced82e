//! Rounds in which two are measured in turn.
//!
//! Owns: whose turn it is: which of the two comes first alternates, so that what drifts helps neither. Refuses to know: what is measured.

use crate::{Failure, Surroundings};

/// As many rounds, one after the other.
///
/// # Errors
/// When one of them fails.
pub async fn rounds<T>(
    surroundings: &Surroundings,
    count: u32,
    mut measure: impl AsyncFnMut(u32) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let bar = surroundings.bar(count.into(), "rounds");
    let mut measured = Vec::with_capacity(count as usize);
    for round in 0..count {
        measured.push(measure(round).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(measured)
}

/// Both in this round, one after the other.
///
/// # Errors
/// When one of them fails.
pub async fn in_turn<Ours, Theirs>(
    round: u32,
    ours: impl Future<Output = Result<Ours, Failure>>,
    theirs: impl Future<Output = Result<Theirs, Failure>>,
) -> Result<(Ours, Theirs), Failure> {
    if round.is_multiple_of(2) {
        let ours = ours.await?;
        Ok((ours, theirs.await?))
    } else {
        let theirs = theirs.await?;
        Ok((ours.await?, theirs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[tokio::test]
    async fn the_first_of_the_two_alternates() {
        let surroundings = Surroundings { server: "none".into(), server_core: None };
        let order = RefCell::new(String::new());
        let say = async |who| {
            order.borrow_mut().push(who);
            Ok(who)
        };
        let pairs = rounds(&surroundings, 3, async |round| in_turn(round, say('o'), say('t')).await).await.unwrap();
        assert_eq!(order.into_inner(), "ottoot");
        assert_eq!(pairs, [('o', 't'); 3]);
    }
}
