import { sentence } from "../format";
import type { StaleConfig } from "../answers";
import { Copy } from "./copy";
import { Notice } from "./notice";

/** Stays until the config file names what is live: a restart is refused before. */
export function Stale({ config }: { config: StaleConfig | null }) {
  if (!config) return null;
  return (
    <Notice kind="warning">
      <p>{sentence(config.sentence)}</p>
      {config.restore && (
        <>
          <pre class="code" tabIndex={0} role="region" aria-label="Lines to restore in the config file">
            <code>{config.restore}</code>
          </pre>
          <Copy text={config.restore} what="lines" label="Copy lines" />
        </>
      )}
    </Notice>
  );
}
