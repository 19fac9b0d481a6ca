-- Whether the hours know of shares in a span.
select exists (
    select from shares_hourly where bucket >= %(start)s and bucket < %(end)s
) as known
