import { Empty } from "../parts/notice";

export function Swap() {
  return <Empty title="Not there yet">This view is being built.</Empty>;
}
