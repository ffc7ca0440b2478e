//! What stands behind the question mark of an admin route.
//!
//! Always holds: a key that the route does not know, or that stands twice, is refused by name.

use super::route::decoded;
use crate::decode::{clip, nearest};
use crate::error::{Error, Kind};

/// The values of these keys, in their order.
///
/// # Errors
/// A key that is not among them, one that stands twice, or what is no percent-encoded UTF-8.
pub(crate) fn values<const N: usize>(query: Option<&str>, keys: [&str; N]) -> Result<[Option<String>; N], Error> {
    let mut found = [const { None }; N];
    let refused = |text: String| Error::new(Kind::BadRequest, text);
    for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let place = keys.iter().position(|known| *known == key);
        let Some(place) = place.and_then(|at| found.get_mut(at)) else {
            let known = keys.join(", ");
            let nearest = nearest(key, keys.iter().copied());
            return Err(refused(format!(
                "'{}' is not a parameter of this route, which takes {known}{nearest}",
                clip(key)
            )));
        };
        if place.is_some() {
            return Err(refused(format!("'{key}' stands twice")));
        }
        if value.is_empty() {
            return Err(refused(format!("'{key}' has no value")));
        }
        // As forms have it, a plus sign is a blank; a real one comes as %2B.
        *place = Some(decoded(&value.replace('+', "%20"))?);
    }
    Ok(found)
}

/// A value as a number, or another thing that is read from a text.
///
/// # Errors
/// It cannot be read so.
pub(crate) fn read<T: std::str::FromStr>(key: &str, value: Option<&String>) -> Result<Option<T>, Error>
where
    T::Err: std::fmt::Display,
{
    let read = |value: &String| {
        value
            .parse()
            .map_err(|why| Error::new(Kind::BadRequest, format!("{key}: {why}")))
    };
    value.map(read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_what_is_not_one_is_refused_by_name() {
        let read = |query: &str| values(Some(query), ["n", "since"]).map_err(|e| e.to_string());
        assert_eq!(
            read("since=336%20rows&n=5").unwrap(),
            [Some("5".into()), Some("336 rows".into())]
        );
        assert_eq!(read("since=336+rows").unwrap(), [None, Some("336 rows".into())]);
        assert_eq!(values(None, ["n"]).unwrap(), [None]);
        for (query, says) in [
            ("sinse=7d", "did you mean 'since'?"),
            ("n=1&n=2", "'n' stands twice"),
            ("n=", "'n' has no value"),
            ("n=%zz", "percent-encoded"),
            ("<script>=1", "is not a parameter"),
        ] {
            let why = read(query).unwrap_err();
            assert!(why.contains(says), "{query}: {why}");
        }
        let n = super::read::<u16>("n", Some(&"-1".to_owned())).unwrap_err();
        assert!(n.to_string().contains("n: "), "{n}");
    }
}
