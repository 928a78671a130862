/** A unified diff of a config, to read and to copy. */
import { Copy } from "./copy";

export function Diff({ text, what }: { text: string; what: string }) {
  const lines = text.replace(/\n$/, "").split("\n");
  return (
    <div class="stack">
      <div class="row between">
        <h3>{what}</h3>
        <Copy text={text} what={what} />
      </div>
      <pre class="code diff" tabIndex={0} aria-label={what}>
        {lines.map((line, index) => (
          <span key={index} data-line={kind(line)}>
            {line}
            {"\n"}
          </span>
        ))}
      </pre>
    </div>
  );
}

function kind(line: string): string {
  if (line.startsWith("+++") || line.startsWith("---") || line.startsWith("@@")) return "head";
  return line.startsWith("+") ? "more" : line.startsWith("-") ? "less" : "same";
}
