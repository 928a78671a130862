/** The width of an element in CSS pixels, so that charts are drawn at their true size and text is never scaled. */
import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

export function useWidth<E extends Element>(otherwise = 640): [RefObject<E | null>, number] {
  const element = useRef<E>(null);
  const [width, setWidth] = useState(otherwise);
  useEffect(() => {
    if (!element.current) return undefined;
    setWidth(Math.round(element.current.clientWidth) || otherwise);
    const observer = new ResizeObserver(([entry]) => entry && setWidth(Math.round(entry.contentRect.width) || otherwise));
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return [element, width];
}
