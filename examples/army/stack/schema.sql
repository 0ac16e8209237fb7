create table orders (
  id serial primary key,
  customer text not null,
  cents integer not null check (cents > 0)
);
insert into orders (customer, cents) select 'customer ' || n, n * 100 from generate_series(1, 1000) n;
