import { Empty } from "../parts/notice";

export function Queries() {
  return <Empty title="Not there yet">This view is being built.</Empty>;
}
