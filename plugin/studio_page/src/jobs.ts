/**
 * `useJob`: starts long work on the server, follows it, cancels it.
 *
 * The job's id is in the hash, so that a reloaded page shows the same result. The server stops work nobody asks
 * about: a job whose view is left goes on being asked about as long as the page is open.
 */
import { useEffect, useRef, useState } from "preact/hooks";

import { act, ApiError, openApi } from "./api";
import { announce } from "./parts/announce";
import { useRequest } from "./request";
import { useParam } from "./state";
import type { JobAnswer } from "./answers";

export type JobKind = "evaluate";
export type Job<Result> = Omit<JobAnswer, "result"> & { result: Result | null };

const ASK_AGAIN = 600; // ms, while it runs
const ASK_FROM_AFAR = 5000; // ms, once its view is left

const PASSING = new Set([0, 429, 503]); // no answer, too many requests, a service that starts or ends

/** By kind and collection, the job that was started last: a view that is opened again shows it. */
const latest = new Map<string, string>();

export interface JobHandle<Result> {
  job: Job<Result> | null;
  error: ApiError | null;
  /** From the click until the server says how it ended. */
  busy: boolean;
  start: (body: Readonly<Record<string, unknown>>) => void;
  cancel: () => void;
  /** Asks again how far it is, after an error; null where it did not start. */
  again: (() => void) | null;
}

export function isUnderWay(job: Job<unknown> | null): boolean {
  return job?.state === "running" || job?.state === "waiting";
}

export function useJob<Result>(kind: JobKind, collection: string): JobHandle<Result> {
  const [id, setId] = useParam("job");
  const [starting, setStarting] = useState(false);
  const [refused, setRefused] = useState<ApiError | null>(null);
  const name = `${kind} ${collection}`;
  const answer = useRequest<{ id: string; job: Job<Result> }>(
    id ? async (api) => ({ id, job: await api.get<Job<Result>>(`/jobs/${encodeURIComponent(id)}`) }) : null,
    [id],
  );
  // The answer about an earlier job, or a link to one of another kind, is not this one.
  const job = answer.data?.id === id && answer.data.job.kind === kind ? answer.data.job : null;
  const underWay = isUnderWay(job);

  useEffect(() => {
    const known = latest.get(name);
    if (!id && known) setId(known);
  }, [name]);
  useEffect(() => {
    const passing = answer.error !== null && PASSING.has(answer.error.status);
    if ((!underWay && !passing)) return undefined;
    const timer = setTimeout(answer.reload, passing ? ASK_FROM_AFAR : ASK_AGAIN);
    return () => clearTimeout(timer);
  }, [answer.data, answer.error]);
  useEffect(() => {
    if (job && !underWay) announce(ending(job));
  }, [job?.state]);
  const mounted = useKeptAlive(id, underWay);

  const start = (body: Readonly<Record<string, unknown>>) => {
    setStarting(true);
    setRefused(null);
    act<{ id: string }>("POST", "/jobs", { kind, collection, ...body }).then(
      (started) => {
        latest.set(name, started.id);
        // The hash of another view is not ours to change.
        if (mounted.current) setId(started.id);
        else askFromAfar(started.id);
      },
      (error: unknown) => setRefused(error instanceof ApiError ? error : new ApiError(String(error), 0, "page")),
    ).finally(() => setStarting(false));
  };
  const cancel = () => {
    act("DELETE", `/jobs/${encodeURIComponent(id)}`).then(answer.reload, answer.reload);
  };
  const gone = answer.error?.status === 404;
  useEffect(() => {
    if (!gone) return;
    latest.delete(name);
    setId("");
  }, [gone]);
  const error = refused ?? (gone ? null : answer.error);
  return { job, error, busy: starting || underWay || (id !== "" && !job && answer.loading), start, cancel, again: refused ? null : answer.reload };
}

function ending(job: Job<unknown>): string {
  if (job.state === "done") return "Done. The result is below.";
  return job.state === "cancelled" ? "Cancelled." : `Failed: ${job.error?.message ?? job.sentence}`;
}

/** Once the view is left, asks about its job until it ends. Returns whether the view is still there. */
function useKeptAlive(id: string, underWay: boolean): { readonly current: boolean } {
  const mounted = useRef(true);
  const running = useRef("");
  if (underWay) running.current = id;
  else if (id) running.current = "";
  useEffect(() => {
    mounted.current = true;
    return () => {
      mounted.current = false;
      if (running.current) askFromAfar(running.current);
    };
  }, []);
  return mounted;
}

function askFromAfar(id: string): void {
  const ask = () =>
    openApi(new AbortController().signal)
      .get<Job<unknown>>(`/jobs/${encodeURIComponent(id)}`)
      .then(
        (job) => isUnderWay(job) && setTimeout(ask, ASK_FROM_AFAR),
        () => undefined,
      );
  void ask();
}
