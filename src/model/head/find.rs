//! Which output holds the scores, and what they are: decided from the file, one probe and the settings.

mod choose;
mod signs;

use super::source::{Source, looks_like_probabilities};
use super::{HeadSettings, Link};
use crate::model::onnx::{Classes, Scan};
use crate::model::signature::Signature;
use crate::model::tensor::{Data, Datatype, Tensor};
use crate::score::Task;
use choose::Choice;
use signs::{class_list, has_classifier, is_anomaly, predicted, width};

/// What was found out.
pub(super) struct Found {
    pub(super) task: Option<Task>,
    pub(super) classes: Option<Classes>,
    pub(super) source: Source,
    /// Why the task is unknown, and the line that makes it known.
    pub(super) remedy: Option<String>,
}

/// One output with a value or a fixed number of values per row.
#[derive(Debug, Clone, Copy)]
struct Output<'a> {
    number: usize,
    name: &'a str,
    data: &'a Data,
    width: usize,
}

/// Everything that speaks for one reading or another.
struct Evidence<'a> {
    scan: &'a Scan,
    settings: &'a HeadSettings,
    rows: usize,
    /// Floats per row.
    scores: Vec<Output<'a>>,
    /// The predicted class, where there is one.
    label: Option<Output<'a>>,
    classes: Option<Classes>,
}

pub(super) fn find(
    signature: &Signature,
    scan: &Scan,
    probe: &[Tensor],
    rows: usize,
    settings: &HeadSettings,
) -> Result<Found, String> {
    if probe.len() != signature.outputs.len() || rows == 0 {
        return Err(format!(
            "the probe gave {} outputs of {}",
            probe.len(),
            signature.outputs.len()
        ));
    }
    let evidence = Evidence::gather(signature, scan, probe, rows, settings);
    if signature.crossed {
        // One number came out for one by one, and more will for more.
        return Ok(evidence.unknown());
    }
    match choose::choose(&evidence)? {
        Choice::Unknown => Ok(evidence.unknown()),
        Choice::Hard => evidence.hard(),
        Choice::Gathered(outputs) => evidence.gathered(outputs),
        Choice::Matrix(output, Some(column)) => evidence.single(output, Some(column)),
        Choice::Matrix(output, None) if output.width == 1 => evidence.single(output, None),
        Choice::Matrix(output, None) => evidence.matrix(output),
    }
}

impl<'a> Evidence<'a> {
    fn gather(
        signature: &'a Signature,
        scan: &'a Scan,
        probe: &'a [Tensor],
        rows: usize,
        settings: &'a HeadSettings,
    ) -> Self {
        let mut scores = Vec::new();
        let mut labels: Vec<Output<'a>> = Vec::new();
        let mut names = None;
        for (number, (spec, tensor)) in signature.outputs.iter().zip(probe).enumerate() {
            // The list of classes that scikit-learn's exporter adds on request has no rows.
            if spec.name == "class_labels" && tensor.shape().len() == 1 {
                names = class_list(tensor.data());
                continue;
            }
            let Some(width) = width(tensor, rows) else { continue };
            let output = Output {
                number,
                name: &spec.name,
                data: tensor.data(),
                width,
            };
            if tensor.datatype().is_float() {
                scores.push(output);
            } else if width == 1 {
                labels.push(output);
            }
        }
        let classes = scan.classes.clone().or(names);
        let label = predicted(&labels, classes.is_some() || has_classifier(scan));
        Self {
            scan,
            settings,
            rows,
            scores,
            label,
            classes,
        }
    }

    /// The file or the settings say that there are classes.
    fn is_classifier(&self) -> bool {
        let declared = matches!(self.settings.task, Some(Task::Binary | Task::Multiclass));
        let operator = has_classifier(self.scan);
        let anomaly = self
            .label
            .is_some_and(|label| is_anomaly(&label, &self.scores, self.rows));
        let named = self.classes.is_some() || (self.label.is_some() && !anomaly);
        declared || (self.settings.task.is_none() && (operator || named))
    }

    fn unknown(&self) -> Found {
        Found {
            task: None,
            classes: None,
            source: Source::Nothing,
            remedy: None,
        }
    }

    /// The names for this many classes, or numbers.
    fn names(&self, count: usize) -> Classes {
        match &self.classes {
            Some(classes) if classes.len() == count => classes.clone(),
            _ => Classes::Ints((0..count).map(|i| i64::try_from(i).unwrap_or(i64::MAX)).collect()),
        }
    }

    fn classifier(&self, source: Source, count: usize) -> Result<Found, String> {
        let task = match (self.settings.task, count) {
            (Some(Task::Binary), 3..) => {
                return Err(format!(
                    "task = \"binary\" does not fit {count} classes: set task = \"multiclass\""
                ));
            }
            (Some(task), _) => task,
            (None, 2) => Task::Binary,
            (None, _) => Task::Multiclass,
        };
        Ok(Found {
            task: Some(task),
            classes: Some(self.names(count)),
            source,
            remedy: None,
        })
    }

    /// Labels without scores.
    fn hard(&self) -> Result<Found, String> {
        let Some(label) = self.label else {
            return Ok(self.unknown());
        };
        if self.settings.task == Some(Task::Regression) {
            return self.single(label, None);
        }
        let binary = || (label.data.datatype() != Datatype::Bytes).then(|| Classes::Ints(vec![0, 1]));
        let Some(classes) = self.classes.clone().or_else(binary) else {
            let remedy = format!(
                "the task is unknown, and answers are raw outputs: output {} names classes that the file does not list; export \
                 it with its probabilities, or with output_class_labels=True",
                label.name
            );
            return Ok(Found {
                remedy: Some(remedy),
                ..self.unknown()
            });
        };
        let source = Source::Hard { output: label.number };
        let mut found = self.classifier(source, classes.len())?;
        found.classes = Some(classes);
        Ok(found)
    }

    /// One output per class.
    fn gathered(&self, outputs: Vec<usize>) -> Result<Found, String> {
        let count = outputs.len();
        self.classifier(Source::Gathered(outputs), count)
    }

    /// One number per row: a probability, a margin or a value.
    fn single(&self, output: Output<'a>, column: Option<usize>) -> Result<Found, String> {
        let source = |link| Source::Matrix {
            output: output.number,
            width: output.width,
            column,
            link,
        };
        let sigmoid = self.scan.operators.contains_key(":Sigmoid") || output.name.to_ascii_lowercase().contains("prob");
        let probabilities = column.is_none() && looks_like_probabilities(output.data, self.rows, 1);
        let classes = self.is_classifier() || (self.settings.task.is_none() && sigmoid && probabilities);
        if !classes && self.settings.link.is_none_or(|link| link == Link::Identity) {
            return Ok(Found {
                task: Some(Task::Regression),
                classes: None,
                source: source(Link::Identity),
                remedy: None,
            });
        }
        match (self.settings.task, self.settings.link) {
            (Some(Task::Regression), Some(_)) => Err("a regression's value has no link: remove the line link".into()),
            (Some(Task::Multiclass), _) => Err(format!(
                "output {} has one column, and task = \"multiclass\" needs one per class",
                output.name
            )),
            (_, Some(link)) => self.classifier(source(link), 2),
            (_, None) if column.is_some() || probabilities => self.classifier(source(Link::Identity), 2),
            (_, None) => Err(format!(
                "output {} holds one column outside [0, 1], a margin and not a probability: add the line link = \"logit\" \
                 (its sigmoid is the score), or choose a metric that needs no probability",
                output.name
            )),
        }
    }

    /// Several numbers per row.
    fn matrix(&self, output: Output<'a>) -> Result<Found, String> {
        let Output {
            name, width, number, ..
        } = output;
        let regressor = self.scan.operators.keys().any(|op| op.ends_with("Regressor"));
        if self.settings.task == Some(Task::Regression) || (regressor && !self.is_classifier()) {
            return Err(format!(
                "output {name} holds {width} values per row, and a regression has one: add the line \
                 score_output = \"{name}[0]\", which counts its columns from 0"
            ));
        }
        let source = |link| Source::Matrix {
            output: number,
            width,
            column: None,
            link,
        };
        if let Some(link) = self.settings.link {
            return self.classifier(source(link), width);
        }
        if looks_like_probabilities(output.data, self.rows, width) && (self.is_classifier() || self.speaks(name)) {
            return self.classifier(source(Link::Identity), width);
        }
        let declared = matches!(self.settings.task, Some(Task::Binary | Task::Multiclass));
        if declared || has_classifier(self.scan) || self.settings.score_output.is_some() {
            return Err(format!(
                "output {name} holds {width} values per row that are no probabilities: add the line link = \"softmax\", \
                 if they are logits"
            ));
        }
        // Such is every PyTorch export: it is served as it is, and says what makes more of it.
        let remedy = format!(
            "the task is unknown, and answers are raw outputs: output {name} holds {width} values per row that are not known \
             to be probabilities; add the line link = \"softmax\" to model.toml if they are logits, or link = \"identity\" and \
             task = \"multiclass\" if they are probabilities"
        );
        Ok(Found {
            remedy: Some(remedy),
            ..self.unknown()
        })
    }

    /// The output's name, or a softmax in the graph, says that these are scores of classes.
    fn speaks(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        ["logit", "prob"].iter().any(|word| name.contains(word))
            || self.settings.score_output.is_some()
            || self.scan.operators.contains_key(":Softmax")
    }
}
