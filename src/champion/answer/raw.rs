//! Raw outputs: handed over as a run gave them; joined only where rows were answered apart.

use std::sync::Arc;

use super::outputs::Outputs;
use crate::model::tensor::Tensor;

/// Raw outputs by name.
pub(super) type Named = Vec<(Arc<str>, Tensor)>;

/// What the runs of one request gave, each for rows of its own.
#[derive(Debug, Default)]
pub(in crate::champion) struct Raw(Vec<Piece>);

#[derive(Debug)]
struct Piece {
    /// First row.
    from: usize,
    rows: usize,
    tensors: Named,
}

impl Raw {
    /// Takes what a run over `rows` rows from `from` on has given, as far as it was asked for.
    pub(super) fn take(&mut self, from: usize, rows: usize, results: Vec<Tensor>, outputs: &Outputs) {
        if outputs.raw.is_empty() {
            return;
        }
        let mut results: Vec<Option<Tensor>> = results.into_iter().map(Some).collect();
        let named = outputs.raw.iter().filter_map(|(name, place)| {
            let tensor = results.get_mut(*place)?.take()?;
            Some((Arc::clone(name), tensor))
        });
        let tensors = named.collect();
        self.0.push(Piece { from, rows, tensors });
    }

    /// Takes the pieces of another run of the same request.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The outputs over all `rows` rows of the request. What some row lacks, or what cannot be joined along the first
    /// axis, is left out.
    pub(super) fn join(mut self, rows: usize) -> Named {
        if self.0.iter().map(|piece| piece.rows).sum::<usize>() != rows {
            return Vec::new();
        }
        if self.0.len() == 1 {
            return self.0.pop().map(|whole| whole.tensors).unwrap_or_default();
        }
        self.0.sort_by_key(|piece| piece.from);
        let names = self.0.first().map(|first| first.tensors.as_slice()).unwrap_or_default();
        let joined = names.iter().filter_map(|(name, _)| {
            let of = |piece: &'_ Piece| piece.tensors.iter().position(|(own, _)| own == name);
            let parts: Option<Vec<&Tensor>> = self
                .0
                .iter()
                .map(|piece| piece.tensors.get(of(piece)?).map(|(_, tensor)| tensor))
                .collect();
            Some((Arc::clone(name), Tensor::concat(&parts?)?))
        });
        joined.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tensor::Data;

    fn tensor(shape: &[usize], values: &[i64]) -> Tensor {
        Tensor::new(shape.to_vec(), Data::Int64(values.to_vec())).unwrap()
    }

    fn asked(names: &[(&str, usize)]) -> Outputs {
        Outputs {
            run: (0..names.len()).collect(),
            head: 0,
            raw: names.iter().map(|(name, place)| ((*name).into(), *place)).collect(),
        }
    }

    #[test]
    fn the_outputs_of_one_run_are_handed_over_whole_in_the_order_asked_for() {
        let mut raw = Raw::default();
        let (rows, odd, scalar) = (tensor(&[2, 1], &[1, 2]), tensor(&[3], &[7, 8, 9]), tensor(&[], &[5]));
        let outputs = asked(&[("scalar", 2), ("rows", 0), ("odd", 1)]);
        raw.take(0, 2, vec![rows.clone(), odd.clone(), scalar.clone()], &outputs);
        let given = raw.join(2);
        let expected = [("scalar".into(), scalar), ("rows".into(), rows), ("odd".into(), odd)];
        assert_eq!(given, expected);
    }

    #[test]
    fn rows_that_were_answered_apart_are_joined_in_their_order_and_what_one_lacks_is_left_out() {
        let mut raw = Raw::default();
        raw.take(
            1,
            1,
            vec![tensor(&[1, 1], &[2]), tensor(&[], &[9])],
            &asked(&[("y", 0), ("s", 1)]),
        );
        raw.take(
            0,
            1,
            vec![tensor(&[1, 1], &[1]), tensor(&[], &[9]), tensor(&[1], &[4])],
            &asked(&[("y", 0), ("s", 1), ("own", 2)]),
        );
        assert_eq!(raw.join(2), [("y".into(), tensor(&[2, 1], &[1, 2]))]);
    }

    #[test]
    fn outputs_that_a_row_has_not_at_all_are_nobodys() {
        let mut raw = Raw::default();
        raw.take(0, 1, vec![tensor(&[1], &[1])], &asked(&[("y", 0)]));
        raw.take(1, 1, vec![tensor(&[1], &[1])], &asked(&[]));
        assert!(raw.join(2).is_empty());
    }
}
