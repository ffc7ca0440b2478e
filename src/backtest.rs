//! A contest in which the champions are swapped here: what the gateway would have decided on rows that are past.
//!
//! Values in, values out, as in the judge: no clock, no files, no threads. Rows come with what every version made of
//! them; what closes them, pairs them and judges them is the gateway's own code ([`crate::recorder::Closing`],
//! [`crate::judge`]), so that on the same rows the same decisions follow, bit for bit.
//! What comes out is a backtest, never evidence: a file that was made after the rows has seen them.
//!
//! | part | does |
//! |---|---|
//! | [`contest`] | rows, closing, pairs, judge, swaps |
//! | [`course`] | a whole stream: who arrives when, who was champion when, how the evidence went |

pub mod contest;
pub mod course;
