//! Tables: plain columns, stable names, nothing that a pipe could not carry.

use comfy_table::{ContentArrangement, Table as Columns, TableStyle};

/// A table, with a title when there are several.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    title: Option<&'static str>,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    pub(crate) fn new(
        header: impl IntoIterator<Item = &'static str>,
        empty: &'static str,
    ) -> Table {
        Table {
            title: None,
            header: header.into_iter().collect(),
            rows: Vec::new(),
            empty,
        }
    }

    pub(crate) fn titled(mut self, title: &'static str) -> Table {
        self.title = Some(title);
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn render(&self) -> String {
        let mut text = self
            .title
            .map_or(String::new(), |title| format!("{title}\n"));
        if self.rows.is_empty() {
            text.push_str(self.empty);
            text.push('\n');
            return text;
        }
        let mut columns = Columns::new();
        columns
            .load_style(TableStyle::new())
            .set_content_arrangement(ContentArrangement::Disabled);
        columns.set_header(&self.header);
        for row in &self.rows {
            columns.add_row(row);
        }
        for column in columns.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in columns.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A dash for what is not there.
pub(crate) fn dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".into(), |text| text.to_string())
}

/// Joined by commas, or a dash.
pub(crate) fn joined(items: &[String]) -> String {
    match items.is_empty() {
        true => "-".into(),
        false => items.join(","),
    }
}

/// A fingerprint for people, `9f:3c…a1`.
pub(crate) fn short(hex: &str) -> String {
    catamaran_model::Fingerprint::parse(hex).map_or_else(|| hex.into(), |print| print.short())
}
