/** Tables of values, also the one behind each chart. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

import { count } from "../format";

export interface Column<Row> {
  head: string;
  cell: (row: Row) => ComponentChildren;
  number?: boolean;
  /** Long text: keeps some width where the window is narrow. */
  wide?: boolean;
}

export interface TableProps<Row> {
  caption: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  rowKey: (row: Row, index: number) => string;
}

/** The first column names the row; the caption is for screen readers. A narrow window scrolls it sideways. */
export function Table<Row>({ caption, columns, rows, rowKey }: TableProps<Row>) {
  return (
    <div class="table-wrap" role="region" aria-label={caption} tabIndex={0}>
      <table class="table">
        <caption class="visually-hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.head} scope="col" class={column.number ? "right" : ""}>
                {column.head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={rowKey(row, index)}>
              {columns.map((column, place) =>
                place === 0 ? (
                  <th key={column.head} scope="row" class={column.wide ? "wide" : ""}>
                    {column.cell(row)}
                  </th>
                ) : (
                  <td key={column.head} class={column.number ? "right" : column.wide ? "wide" : ""}>
                    {column.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const AT_ONCE = 200;

/** A chart's values as a table, closed until somebody opens it; long ones grow by 200 rows. */
export function TableBehind<Row>(props: TableProps<Row>) {
  const [open, setOpen] = useState(false);
  const [shown, setShown] = useState(AT_ONCE);
  const left = props.rows.length - shown;
  return (
    <details class="behind" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Data as a table</summary>
      {open && <Table {...props} rows={props.rows.slice(0, shown)} />}
      {open && left > 0 && (
        <button class="button small" type="button" onClick={() => setShown(shown + AT_ONCE)}>
          Show more ({count(left)} left)
        </button>
      )}
    </details>
  );
}
