//! The tokens that a tokenizer's file puts around a text (`post_processor`).

use serde_json::Value;

/// Ids before and after those of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) before: Vec<u32>,
    pub(super) after: Vec<u32>,
}

impl Template {
    /// Parses a post-processor; `None` for an unsupported kind.
    pub(super) fn read(json: &Value) -> Option<Self> {
        match json["type"].as_str() {
            None if json.is_null() => Some(Self::default()),
            Some("ByteLevel") => Some(Self::default()),
            Some("Sequence") => {
                json["processors"].as_array()?.iter().map(Self::read).try_fold(Self::default(), |inner, outer| {
                    let outer = outer?;
                    Some(Self { before: [outer.before, inner.before].concat(), after: [inner.after, outer.after].concat() })
                })
            }
            // A pair of text and id each.
            Some("BertProcessing" | "RobertaProcessing") => {
                let id = |key: &str| Some(vec![id(&json[key][1])?]);
                Some(Self { before: id("cls")?, after: id("sep")? })
            }
            Some("TemplateProcessing") => Self::of_single(json),
            _ => None,
        }
    }

    /// The template of `single`: names of special tokens, with their ids, and the position of the text.
    fn of_single(json: &Value) -> Option<Self> {
        let (mut template, mut is_before) = (Self::default(), true);
        for item in json["single"].as_array()? {
            if item.get("Sequence").is_some() {
                is_before = false;
                continue;
            }
            let ids = json["special_tokens"][item["SpecialToken"]["id"].as_str()?]["ids"].as_array()?;
            let side = if is_before { &mut template.before } else { &mut template.after };
            side.extend(ids.iter().map(id).collect::<Option<Vec<u32>>>()?);
        }
        Some(template)
    }
}

fn id(json: &Value) -> Option<u32> {
    u32::try_from(json.as_u64()?).ok()
}
