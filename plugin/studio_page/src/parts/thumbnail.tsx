import { useEffect, useRef, useState } from "preact/hooks";

import { useRequest } from "../request";

/** A small picture, asked for when it comes into sight. */
export function Thumbnail({ path, alt }: { path: string; alt: string }) {
  const frame = useRef<HTMLSpanElement>(null);
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    if (!frame.current) return undefined;
    const observer = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && setSeen(true), { rootMargin: "200px" });
    observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);
  const { data } = useRequest<string>(seen ? (api) => api.image(path) : null, [path]);
  return (
    <span ref={frame} class="thumbnail">
      {data?.startsWith("data:image/") && <img src={data} alt={alt} />}
    </span>
  );
}
