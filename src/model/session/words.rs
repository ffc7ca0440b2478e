//! ONNX Runtime's messages without what only its authors can use: source files, signatures, line numbers.

/// Longer messages are cut: they go into logs, replies and the ledger.
const LONGEST: usize = 600;

/// One line of plain words.
pub(in crate::model) fn readable(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find("/onnxruntime/") {
        let start = rest
            .get(..at)
            .and_then(|head| head.rfind(char::is_whitespace))
            .map_or(0, |space| space + 1);
        let before = rest.get(start..at).unwrap_or_default();
        // `…failed:/src/onnxruntime/core/graph.cc:12 onnxruntime::Graph::Resolve(…) What was wrong`
        let start = before.find(":/").map_or(start, |colon| start + colon + 1);
        text.push_str(rest.get(..start).unwrap_or_default());
        let tail = rest.get(start..).unwrap_or_default();
        rest = after_location(tail);
    }
    text.push_str(rest);
    let text = text.replace("Status Message: ", "");
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// What follows a source file and, where there is one, the signature of the function in it.
fn after_location(tail: &str) -> &str {
    let after_file = tail
        .find(char::is_whitespace)
        .and_then(|at| tail.get(at..))
        .unwrap_or_default()
        .trim_start();
    let words = after_file.find('(').filter(|&open| {
        let name = after_file.get(..open).unwrap_or_default();
        name.contains("::") || !name.trim().contains(' ')
    });
    let Some(open) = words else {
        return after_file;
    };
    let mut depth = 0usize;
    for (at, c) in after_file.char_indices().skip_while(|(at, _)| *at < open) {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return after_file.get(at + 1..).unwrap_or_default().trim_start();
        }
    }
    after_file
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn source_locations_go_and_the_fault_stays() {
        let raw = "Load model from /tmp/x.onnx failed:/src/onnxruntime/core/graph/model.cc:181 \
                   onnxruntime::Model::Model(onnx::ModelProto&&, const PathString&, bool (*)(int)) \
                   Unsupported model IR version: 99, max supported IR version: 11\n";
        assert_eq!(
            readable(raw),
            "Load model from /tmp/x.onnx failed: Unsupported model IR version: 99, max supported IR version: 11"
                .replace("failed: ", "failed:")
        );
        assert_eq!(
            readable("Invalid rank for input: X\n Got: 1"),
            "Invalid rank for input: X Got: 1"
        );
    }

    #[test]
    fn a_message_cannot_flood_a_log_or_forge_a_line() {
        let long = readable(&"é\n".repeat(5_000));
        assert!(long.chars().count() <= super::LONGEST + 1 && !long.contains('\n'));
    }
}
