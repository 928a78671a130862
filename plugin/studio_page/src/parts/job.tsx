/** How far a job is, with a way to stop it; afterwards, why there is no result. */
import type { JobHandle } from "../jobs";
import { isUnderWay } from "../jobs";
import { seconds, sentenceCase } from "../format";
import { Failure, Loading, Notice } from "./notice";

export function JobProgress({ handle, what }: { handle: JobHandle<unknown>; what: string }) {
  const { job, error, busy, cancel, again } = handle;
  if (error) return <Failure error={error} again={again ?? undefined} />;
  if (!job) return busy ? <Loading label={`Starting: ${what}`} /> : null;
  if (job.state === "cancelled") return <Notice>Cancelled. Nothing was changed; start it again when you like.</Notice>;
  if (job.state === "failed") return <Notice kind="error">{job.error?.message ?? "The job failed. The server's log says why."}</Notice>;
  if (!isUnderWay(job)) return null;
  return (
    <section class="card stack" aria-label={`Progress: ${what}`}>
      <div class="row between">
        <p>
          <b>{sentenceCase(job.sentence)}</b>
          <span class="muted number">{job.seconds_left !== null && ` · about ${seconds(job.seconds_left)} left`}</span>
        </p>
        <button class="button" type="button" onClick={cancel}>
          Cancel
        </button>
      </div>
      <Bar done={job.state === "waiting" ? null : job.done} total={job.total} label={what} />
    </section>
  );
}

/** A progress bar; without a total it only says that something goes on. */
export function Bar({ done, total, label }: { done: number | null; total: number | null; label: string }) {
  if (done === null || !total) return <progress class="progress" aria-label={label} />;
  return <progress class="progress" aria-label={label} value={done} max={total} />;
}
