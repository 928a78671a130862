import { Empty } from "../parts/notice";

export function ApiView() {
  return <Empty title="Not there yet">This view is being built.</Empty>;
}
